"""This machine's own list of stores."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import documents
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.errors import AccessDenied, InvalidConfig, InvalidDocument, InvalidRequest
from tests import factories

ONE, TWO = factories.STORE_ID, factories.OTHER_STORE_ID


def s3_store(**settings: Any) -> dict[str, Any]:
    """The document of an S3 store."""
    raw = documents.new_store(
        ONE, "s3", time=1.0, name="cloud", bucket="films", endpoint_url="https://s3.example.com", region="eu-1"
    )
    return {**raw, **settings}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the list could be."""
    return tmp_path / "state" / "stores.json"


@pytest.fixture
def bindings(path: Path) -> Bindings:
    """An empty list."""
    return Bindings(path)


def test_a_list_that_is_not_there_is_an_empty_one(bindings: Bindings, path: Path) -> None:
    assert (bindings.filestores(), bindings.enabled()) == ({}, set())
    assert not path.exists()


def test_filestores_are_kept_for_the_owner_only(bindings: Bindings, path: Path, tmp_path: Path) -> None:
    bindings.add_filestore(ONE, tmp_path / "one")
    bindings.add_filestore(TWO, tmp_path / "two")
    assert Bindings(path).filestores() == {ONE: tmp_path / "one", TWO: tmp_path / "two"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    assert sorted(each.name for each in path.parent.iterdir()) == ["stores.json", "stores.json.lock"]


def test_a_filestore_can_move_but_two_cannot_be_at_one_place(bindings: Bindings, tmp_path: Path) -> None:
    bindings.add_filestore(ONE, tmp_path / "one")
    bindings.add_filestore(ONE, tmp_path / "moved")
    with pytest.raises(InvalidRequest, match=ONE):
        bindings.add_filestore(TWO, tmp_path / "moved")
    assert bindings.filestores() == {ONE: tmp_path / "moved"}


@pytest.mark.parametrize(("store_id", "root"), [("../x", "/mnt"), (ONE, "relative")])
def test_what_is_no_id_or_no_absolute_path_is_refused(bindings: Bindings, store_id: str, root: str) -> None:
    with pytest.raises(InvalidRequest):
        bindings.add_filestore(store_id, Path(root))
    assert bindings.filestores() == {}


def test_removing_a_store_says_whether_it_was_on_the_list(bindings: Bindings, tmp_path: Path) -> None:
    bindings.add_filestore(TWO, tmp_path)
    bindings.enable(s3_store())
    assert (bindings.remove(ONE), bindings.remove(TWO), bindings.remove(TWO)) == (True, True, False)
    assert (bindings.filestores(), bindings.enabled()) == ({}, set())


def test_a_store_that_was_not_enabled_here_is_refused_with_the_way_out(bindings: Bindings) -> None:
    with pytest.raises(
        AccessDenied, match=f"'cloud'.*was not enabled.*`dmedia-transfer stores enable {ONE}` allows it"
    ):
        bindings.check_enabled(s3_store())


def test_a_store_that_was_enabled_is_used_until_it_is_disabled(bindings: Bindings, path: Path) -> None:
    bindings.enable(s3_store())
    Bindings(path).check_enabled(s3_store())
    assert bindings.enabled() == {ONE}
    assert (bindings.disable(ONE), bindings.disable(ONE)) == (True, False)
    with pytest.raises(AccessDenied, match="was not enabled"):
        bindings.check_enabled(s3_store())


@pytest.mark.parametrize(
    ("key", "value"),
    [("endpoint_url", "https://evil.example.com"), ("endpoint_url", ""), ("bucket", "others"), ("plugin", "other")],
)
def test_a_store_that_would_take_our_bytes_elsewhere_asks_again(bindings: Bindings, key: str, value: str) -> None:
    bindings.enable(s3_store())
    with pytest.raises(AccessDenied, match=f"has changed.*{key} from '.*' to '{value}'.*stores enable {ONE}"):
        bindings.check_enabled(s3_store(**{key: value}))
    bindings.enable(s3_store(**{key: value}))
    bindings.check_enabled(s3_store(**{key: value}))


def test_changes_that_take_nothing_elsewhere_do_not_ask(bindings: Bindings) -> None:
    bindings.enable(s3_store())
    bindings.check_enabled(
        s3_store(_rev="2-x", name="renamed", copies=2, cost=5, prefix="films/", storage_class="GLACIER")
    )


def test_of_a_plugin_that_is_not_ours_any_setting_asks_again(bindings: Bindings) -> None:
    raw = documents.new_store(ONE, "webdav", time=1.0, folder="films")
    bindings.enable(raw)
    bindings.check_enabled({**raw, "copies": 3, "_rev": "2-x"})
    for change in ({"folder": "other"}, {"proxy": "https://evil.example.com"}):
        with pytest.raises(AccessDenied, match=next(iter(change))):
            bindings.check_enabled({**raw, **change})


@pytest.mark.parametrize(
    "url", ["http://localhost:9000", "http://127.0.0.1", "http://127.9.9.9:1", "http://[::1]:9000"]
)
def test_this_machine_may_be_reached_without_tls(bindings: Bindings, url: str) -> None:
    bindings.enable(s3_store(endpoint_url=url))
    bindings.check_enabled(s3_store(endpoint_url=url))


@pytest.mark.parametrize(
    "url",
    ["http://nas.lan:9000", "http://192.168.1.1", "http://0x7f000001", "http://localhost.evil.com", "http://[::2]"],
)
def test_no_other_host_may_be_reached_without_tls(bindings: Bindings, url: str) -> None:
    host = url.removeprefix("http://").partition(":9000")[0].strip("[]")
    with pytest.raises(AccessDenied, match=f"without TLS at '{host}'"):
        bindings.enable(s3_store(endpoint_url=url))
    assert bindings.enabled() == set()


def test_a_host_that_the_configuration_allows_may_be_reached_without_tls(path: Path) -> None:
    raw = s3_store(endpoint_url="http://NAS.lan:9000")
    allowing = Bindings(path, allowed_http_hosts=("nas.lan",))
    allowing.enable(raw)
    allowing.check_enabled(raw)
    with pytest.raises(AccessDenied, match="without TLS"):
        Bindings(path).check_enabled(raw)  # it was taken out of the configuration since


def test_the_settings_of_other_plugins_are_looked_at_for_tls_as_well(bindings: Bindings) -> None:
    with pytest.raises(AccessDenied, match=r"dav\.example\.com"):
        bindings.enable(documents.new_store(ONE, "webdav", time=1.0, server="HTTP://dav.example.com/films"))


@pytest.mark.parametrize("bad", [{"bucket": "../x"}, {"_id": "x"}, {"type": "other"}, {"endpoint_url": "http://u:p@h"}])
def test_a_document_that_cannot_be_believed_is_not_enabled(bindings: Bindings, bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument):
        bindings.enable(s3_store(**bad))
    assert bindings.enabled() == set()


def test_what_another_process_has_changed_is_seen_at_once(bindings: Bindings, path: Path, tmp_path: Path) -> None:
    other = Bindings(path)
    for number in range(20):
        other.add_filestore(ONE, tmp_path / str(number))
        assert bindings.filestores() == {ONE: tmp_path / str(number)}
    path.unlink()
    assert bindings.filestores() == {}


def test_a_list_that_did_not_change_is_not_read_again(
    bindings: Bindings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings.add_filestore(ONE, tmp_path)
    assert bindings.filestores() == {ONE: tmp_path}
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read again"))
    assert bindings.filestores() == {ONE: tmp_path}


def test_processes_that_change_it_at_once_do_not_undo_each_other(path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dmedia_transfer.bindings import Bindings\n"
        "for number in range(8):\n"
        "    store_id, root = sys.argv[2] + '234567AB'[number], Path(sys.argv[3], str(number))\n"
        "    Bindings(Path(sys.argv[1])).add_filestore(store_id, root)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), letter * 23, f"/{letter}"]) for letter in "ABC"
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert len(Bindings(path).filestores()) == 24


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"filestores": {"x": "/mnt"}}', b'{"filestores": 5}', b'{"unknown": 1}', b"\xff"]
)
def test_a_list_that_cannot_be_understood_is_named(bindings: Bindings, path: Path, body: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(body)
    with pytest.raises(InvalidConfig, match=str(path)):
        bindings.filestores()
    with pytest.raises(InvalidConfig):
        bindings.enable(s3_store())
    assert path.read_bytes() == body


def test_nothing_but_where_it_goes_is_kept_of_a_document(bindings: Bindings, path: Path) -> None:
    bindings.enable(s3_store(secret="hunter2"))
    assert json.loads(path.read_bytes())["enabled"] == {
        ONE: {"plugin": "s3", "endpoint_url": "https://s3.example.com", "bucket": "films"}
    }
