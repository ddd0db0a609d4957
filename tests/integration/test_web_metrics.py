"""Metrics as Prometheus scrapes them: with the token or by the socket, in both formats, whatever is broken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from dmedia_transfer.errors import DatabaseUnavailable, ObjectMissing
from dmedia_transfer.model import Direction, Progress, Transfer, TransferKey
from dmedia_transfer.states import Status
from tests.factories import STORE_ID, content, file_spec
from tests.web import SECRET, WebHost

FILM = file_spec(content(1000, seed=1))
KEY = TransferKey(Direction.DOWNLOAD, FILM.file_id, "")
PREFIX = "dmedia_transfer_"


@pytest.fixture(scope="module", autouse=True)
def _filestore(module_web: WebHost) -> None:
    module_web.add_filestore(STORE_ID)


def read(text: str, parse: Any = text_string_to_metric_families) -> Mapping[tuple[str, frozenset[Any]], float]:
    return {
        (one.name.removeprefix(PREFIX), frozenset(one.labels.items())): one.value
        for family in parse(text)
        for one in family.samples
    }


def scrape(web: WebHost) -> Mapping[tuple[str, frozenset[Any]], float]:
    answer = web.ask("GET", "/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return read(answer.text)


def of(name: str, **labels: str) -> tuple[str, frozenset[Any]]:
    return name, frozenset(labels.items())


def test_a_scrape_tells_what_is_there_at_that_moment(web: WebHost) -> None:
    ongoing = of("transfers", direction="download", status="ongoing", reason="")
    assert scrape(web)[ongoing] == 0
    web.main.call(web.control.add, Transfer(KEY, status=Status.ONGOING, progress=Progress(5, 1000)))
    web.main.call(web.control.change_summary, active=1, download_rate=9.0, problems=("the disk is full",))
    web.main.call(web.jobs.verify, STORE_ID)
    told = scrape(web)
    assert told[ongoing] == told[of("active_transfers")] == told[of("queue_entries")] == 1
    assert told[of("rate_bytes_per_second", direction="download")] == 9.0
    assert told[of("problems")] == told[of("jobs", kind="verify", status="queued")] == 1
    assert told[of("filestore_up", store=STORE_ID)] == 1
    assert 0 < told[of("filestore_free_bytes", store=STORE_ID)] <= told[of("filestore_size_bytes", store=STORE_ID)]
    assert told[of("process_resident_memory_bytes")] > 0


def test_what_went_wrong_is_counted_although_nobody_looked(web: WebHost) -> None:
    counter = of("failures_total", direction="download", kind="ObjectMissing")
    before = scrape(web).get(counter, 0.0)
    web.main.call(web.control.add, Transfer(KEY, status=Status.ONGOING))
    web.main.call(web.control.fail, KEY, ObjectMissing("there is no such object"))
    web.main.call(web.control.remove, KEY)
    assert scrape(web)[counter] == before + 1


def test_who_accepts_openmetrics_gets_it(web: WebHost) -> None:
    # As Prometheus 2.53 asks.
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    answer = web.ask("GET", "/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert read(answer.text, parse_openmetrics)[of("queue_paused")] == 0
    assert answer.text.endswith("# EOF\n")


def test_only_who_may_use_the_api_gets_them(web: WebHost) -> None:
    host = {"Host": f"127.0.0.1:{web.server.port}"}
    assert web.raw("GET", "/metrics", host)[0] == 401
    assert web.raw("GET", "/metrics", {**host, "Authorization": "Bearer wrong"})[0] == 401
    told = {**host, "Authorization": f"Bearer {SECRET}"}
    assert web.raw("GET", "/metrics", {**told, "Origin": "http://elsewhere.example"})[0] == 403
    assert web.raw("GET", "/metrics", {**told, "Host": "elsewhere.example"})[0] == 403
    assert web.raw("GET", "/metrics", told)[0] == 200
    status, body = web.by_socket("GET", "/metrics")
    assert status == 200
    assert of("queue_entries") in read(body.decode())


def test_they_can_be_read_only_and_have_one_place(web: WebHost) -> None:
    answer = web.ask("POST", "/metrics")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert web.ask("HEAD", "/metrics").status_code == 200
    assert web.ask("GET", "/metrics/").status_code == 404
    assert web.ask("GET", "/api/v1/metrics").status_code == 404


def test_a_database_that_does_not_answer_does_not_hinder_them(web: WebHost) -> None:
    web.documents.fail_with = DatabaseUnavailable("the database does not answer")
    reads = web.documents.reads
    assert of("queue_entries") in scrape(web)
    assert web.documents.reads == reads


def test_the_registry_of_the_whole_process_has_nothing_of_ours(web: WebHost) -> None:
    scrape(web)
    scrape(web)
    names = [family.name for family in prometheus_client.REGISTRY.collect()]
    assert not any(name.startswith(PREFIX) for name in names)
