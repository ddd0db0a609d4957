"""schemathesis: whatever the description allows is answered as it says, and what it does not allow is refused."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import missing_required_header, negative_data_rejection

from dmedia_transfer import documents, statusdoc
from dmedia_transfer.model import Direction, Failure, Progress, Transfer, TransferKey
from dmedia_transfer.states import Status
from dmedia_transfer.web.table import TABLE, description
from tests.factories import STORE_ID, content, file_spec
from tests.web import SECRET, WebHost

FILM = file_spec(content(1000, seed=1))
KEY = TransferKey(Direction.DOWNLOAD, FILM.file_id, "")
UNFIT = ["follow_events", "begin_upload", "go_on_with_upload"]  # without end; tus is spoken by its own clients

schema = schemathesis.openapi.from_dict(description()).exclude(operation_id=UNFIT)


@pytest.fixture(scope="module")
def stocked(module_web: WebHost) -> WebHost:
    """A machine that has one of each."""
    web = module_web
    web.add_filestore(STORE_ID, name="shelf")
    web.add_file(FILM, STORE_ID, name="film.mkv")
    web.documents.put(documents.new_machine("N" * 24, "tv", time=1.0) | {"queue": [{"file_id": FILM.file_id}]})
    moving = Transfer(KEY, status=Status.ONGOING, progress=Progress(5, 1000, rate=7.0))
    web.documents.put(statusdoc.write_status("N" * 24, [moving], time=50.0))
    failure = Failure("AccessDenied", "the store refuses us")
    web.main.call(web.control.add, Transfer(KEY, status=Status.FAILED, failure=failure))
    web.journal.ledger.ended(KEY, ["a"], Status.DONE, 1000)
    return web


@schema.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_what_is_described_is_what_is_done(case: Any, stocked: WebHost) -> None:
    # Where headers are the request, HTTP and tus say which are ignored, and that others are answered with 412 or 416.
    route = next(route for route in TABLE.routes if case.operation.label == f"{route.method} {route.where}")
    case.call_and_validate(
        base_url=stocked.url,
        headers={"Authorization": f"Bearer {SECRET}"},
        timeout=20,
        excluded_checks=[negative_data_rejection, missing_required_header] if route.headers else [],
    )
