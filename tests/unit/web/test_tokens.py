"""The secret, one-time links and sessions."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dmedia_transfer.errors import AccessDenied
from dmedia_transfer.web.tokens import LINK_S, MAX_LINKS, SESSION_S, Tokens, load_secret
from tests.clock import FakeClock


def tokens(secret: str = "s" * 43) -> tuple[Tokens, FakeClock]:
    clock = FakeClock(1_000_000.0)
    return Tokens(secret, clock=clock), clock


def test_a_link_opens_once_and_not_for_long() -> None:
    door, clock = tokens()
    code = door.new_link()
    assert door.use_link(code)
    assert not door.use_link(code)
    late = door.new_link()
    clock.now += LINK_S + 1
    assert not door.use_link(late)
    assert not door.use_link("anything")


def test_of_too_many_links_the_oldest_go() -> None:
    door, _ = tokens()
    codes = [door.new_link() for _ in range(MAX_LINKS + 1)]
    assert not door.use_link(codes[0])
    assert all(door.use_link(code) for code in codes[1:])


def test_a_session_outlives_a_restart_and_ends_with_its_time_or_the_secret() -> None:
    door, _ = tokens()
    cookie = door.new_session()
    again, later = tokens()
    assert again.is_session(cookie)
    later.now += SESSION_S + 1
    assert not again.is_session(cookie)
    assert not tokens("t" * 43)[0].is_session(cookie)


@pytest.mark.parametrize("change", [lambda text: "9" + text, lambda text: text[:-1], lambda text: "", lambda text: "é"])
def test_a_session_that_was_changed_is_none(change: Callable[[str], str]) -> None:
    door, _ = tokens()
    assert not door.is_session(change(door.new_session()))


def test_the_page_has_a_host_name_of_its_own_for_each_secret() -> None:
    assert tokens()[0].host_name.endswith(".localhost")
    assert tokens()[0].host_name == tokens()[0].host_name
    assert tokens()[0].host_name != tokens("t" * 43)[0].host_name


def test_the_secret_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "web.token"
    before = os.umask(0)
    try:
        secret = load_secret(path)
    finally:
        os.umask(before)
    assert len(secret) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(path) == secret
    assert [each.name for each in tmp_path.iterdir()] == ["web.token"]


def test_a_secret_that_others_may_have_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "web.token"
    load_secret(path)
    path.chmod(0o640)
    with pytest.raises(AccessDenied, match="others may have read it"):
        load_secret(path)


def test_a_link_in_place_of_the_secret_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("x" * 43)
    (tmp_path / "web.token").symlink_to(elsewhere)
    with pytest.raises(AccessDenied, match="cannot be read"):
        load_secret(tmp_path / "web.token")


def test_a_file_that_is_too_short_to_be_a_secret_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "web.token"
    path.write_text("")
    path.chmod(0o600)
    assert len(load_secret(path)) >= 43
