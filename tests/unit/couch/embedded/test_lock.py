"""One server per file, and where that one listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from dmedia_transfer.couch.embedded.lock import Address, FileLock, Locked, running

ADDRESS = Address("http://127.0.0.1:1", "user", "secret")


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "f"), FileLock(tmp_path / "f")
    first.acquire()
    with pytest.raises(Locked):
        second.acquire(wait_s=0.05)
    first.release()
    second.acquire()
    second.release()


def test_the_address_is_known_while_the_lock_is_held_and_to_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "f"
    lock = FileLock(file)
    assert running(file) is None
    lock.acquire()
    assert running(file) is None  # does not listen yet
    lock.publish(ADDRESS)
    assert running(file) == ADDRESS
    assert (tmp_path / "f.lock").stat().st_mode & 0o077 == 0
    lock.release()
    assert running(file) is None
    assert b"secret" not in (tmp_path / "f.lock").read_bytes()


def test_an_address_that_was_left_behind_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "f.lock").write_text('{"url": "http://127.0.0.1:1", "user": "u", "password": "p"}')
    assert running(tmp_path / "f") is None


def test_the_password_is_not_in_the_repr() -> None:
    assert "secret" not in repr(ADDRESS)
