"""Which machine this is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dmedia_transfer import identity, leaves
from dmedia_transfer.errors import InvalidConfig


def test_a_new_machine_gets_an_id_and_keeps_it(tmp_path: Path) -> None:
    state_dir = tmp_path / "state" / "dmedia"
    first = identity.machine_id(state_dir)
    assert leaves.is_random_id(first)
    assert identity.machine_id(state_dir) == first


def test_two_machines_differ(tmp_path: Path) -> None:
    assert identity.machine_id(tmp_path / "a") != identity.machine_id(tmp_path / "b")


def test_the_file_is_for_its_owner_only_and_nothing_else_is_left(tmp_path: Path) -> None:
    identity.machine_id(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [identity.FILE_NAME]
    assert (tmp_path / identity.FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_those_who_ask_at_once_get_the_same(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    got: list[str] = []

    def ask() -> None:
        barrier.wait()
        got.append(identity.machine_id(tmp_path))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(got)) == 1


@pytest.mark.parametrize("text", ["", "short", "m" * 24, "../" * 8, "\N{SNOWMAN}"])
def test_a_file_without_an_id_is_named_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / identity.FILE_NAME
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig, match="machine-id"):
        identity.machine_id(tmp_path)
    assert path.read_text(encoding="utf-8") == text


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfig, match="cannot be"):
        identity.machine_id(tmp_path / "file" / "state")


def test_a_state_folder_that_was_copied_to_another_device_gets_an_id_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = identity.machine_id(tmp_path, mark="laptop")
    (tmp_path / "journal.sqlite").write_text("unfinished work")
    (tmp_path / "journal.sqlite-wal").write_text("more of it")
    (tmp_path / "stores.json").write_text("{}")
    (tmp_path / "couch.sqlite").write_text("the library, which both may have")
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "current.pem").write_text("a key that is another machine's")

    second = identity.machine_id(tmp_path, mark="desktop")
    assert second != first
    assert identity.machine_id(tmp_path, mark="desktop") == second
    assert first in caplog.text
    aside = tmp_path / f"copied-from-{first}"
    assert {path.name for path in aside.iterdir()} == {
        "journal.sqlite",
        "journal.sqlite-wal",
        "machine-id",
        "peer",
        "stores.json",
    }
    assert {path.name for path in tmp_path.iterdir()} == {aside.name, "couch.sqlite", "machine-id"}


@pytest.mark.parametrize(("then", "now"), [("", "laptop"), ("laptop", "")])
def test_where_a_device_cannot_be_told_from_others_it_keeps_its_id(tmp_path: Path, then: str, now: str) -> None:
    first = identity.machine_id(tmp_path, mark=then)
    assert identity.machine_id(tmp_path, mark=now) == first


def test_the_mark_of_a_device_is_always_the_same_and_does_not_tell_the_machine_id() -> None:
    mark = identity.device_mark()
    assert mark == identity.device_mark()
    for path in identity._OF_THE_SYSTEM:
        if path.exists():
            assert path.read_text().strip() != mark
