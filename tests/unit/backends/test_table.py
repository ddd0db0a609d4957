"""The table of backends."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from dmedia_transfer import backends
from dmedia_transfer.backends import table
from dmedia_transfer.errors import InvalidDocument, Unknown
from dmedia_transfer.model import StoreSpec
from tests.factories import STORE_ID


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that offers a good backend, a broken one, and one under a name that is taken."""
    group = table.ENTRY_POINT_GROUP
    points = EntryPoints(
        [
            EntryPoint("tape", "dmedia_transfer.backends.memory:MemoryBackend", group),
            EntryPoint("broken", "no_such_module:Backend", group),
            EntryPoint("s3", "no_such_module:Backend", group),
        ]
    )

    def entry_points(**wanted: Any) -> EntryPoints:
        return points.select(**wanted)

    monkeypatch.setattr(table, "entry_points", entry_points)


def test_a_store_gets_the_backend_that_its_document_names() -> None:
    made = backends.create(StoreSpec(STORE_ID, "memory"), stall_s=1, connections=1)
    assert type(made).__name__ == "MemoryBackend"
    made = backends.create(StoreSpec(STORE_ID, "s3", {"bucket": "films"}), stall_s=1, connections=1)
    assert type(made).__name__ == "S3Backend"


def test_a_store_with_bad_settings_is_refused_with_its_id_and_the_key() -> None:
    with pytest.raises(InvalidDocument, match=f"{STORE_ID}.*bucket"):
        backends.create(StoreSpec(STORE_ID, "s3", {"bucket": "../etc"}), stall_s=1, connections=1)


def test_a_name_that_nobody_offers_is_unknown_and_the_known_ones_are_told() -> None:
    with pytest.raises(Unknown, match="no backend 'floppy'; known are memory, peer, s3"):
        backends.factory("floppy")


@pytest.mark.usefixtures("offered")
def test_a_package_offers_a_backend_under_a_name_of_its_own() -> None:
    assert backends.names() == ["broken", "memory", "peer", "s3", "tape"]
    made = backends.create(StoreSpec(STORE_ID, "tape"), stall_s=1, connections=1)
    assert type(made).__name__ == "MemoryBackend"


@pytest.mark.usefixtures("offered")
def test_a_package_cannot_take_the_place_of_what_is_shipped() -> None:
    assert backends.factory("s3").__module__ == "dmedia_transfer.backends.s3"


@pytest.mark.usefixtures("offered")
def test_a_backend_that_cannot_be_imported_is_unknown_and_says_why() -> None:
    with pytest.raises(Unknown, match=r"'broken'.*no_such_module"):
        backends.factory("broken")


def test_no_backend_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, dmedia_transfer.backends; print('boto3' in sys.modules, 'botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


def test_what_is_shipped_is_loaded_ahead_and_what_is_not_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("importlib.import_module", loaded.append)
    table.preload("s3")
    table.preload("somebody-elses")
    assert loaded == ["dmedia_transfer.backends.s3"]
