"""The tree of exceptions: what it promises, how it reads, and how it travels."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import errors
from dmedia_transfer.errors import CorruptLeaf, InvalidDocument, LeafMissing, TransferError, Transient, Waiting, shown
from dmedia_transfer.model import Failure
from dmedia_transfer.states import Reason

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, TransferError)]


def made(kind: type[TransferError]) -> TransferError:
    if issubclass(kind, InvalidDocument):
        return kind("M" * 24, "queue", "is missing")
    if issubclass(kind, CorruptLeaf):
        return kind("A" * 48, 3, "S" * 24, "from 127.0.0.1")
    if issubclass(kind, LeafMissing):
        return kind("A" * 48, 3, "S" * 24, frozenset({0, 7}))
    if issubclass(kind, Transient):
        return kind("the line was cut", retry_after_s=2.5)
    return kind("something was done to something")


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_a_pipe_with_all_that_it_knows(kind: type[TransferError]) -> None:
    error = made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.kind, again.transient, again.reason) == (
        str(error),
        kind.__name__,
        error.transient,
        error.reason,
    )
    assert again.retry_after_s == error.retry_after_s
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_only_what_is_transient_says_that_trying_again_helps(kind: type[TransferError]) -> None:
    assert made(kind).transient == issubclass(kind, Transient)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if issubclass(kind, Waiting) and kind is not Waiting])
def test_what_waits_says_for_which_reason(kind: type[TransferError]) -> None:
    assert made(kind).reason is not None
    assert Failure.of(made(kind)).reason is Reason(str(kind.reason))


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_drawn_in_the_tree_under_its_parent(kind: type[TransferError]) -> None:
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("├─", "  ").replace("└─", "  ").replace("│", " ")
        name = words.split()[0] if words.split() else ""
        if not hasattr(errors, name):
            continue
        depth = len(words) - len(words.lstrip())
        while path and path[-1][0] >= depth:
            path.pop()
        drawn[name] = path[-1][1] if path else "Exception"
        path.append((depth, name))
    if issubclass(kind, errors.Stalled):
        assert kind.__base__ is errors.ConnectionLost  # drawn beside it: one more level would say less
        return
    assert drawn[kind.__name__] == (kind.__base__ or object).__name__


def test_a_bad_document_is_named_with_its_key() -> None:
    assert str(InvalidDocument("M", "queue", "is missing")) == "document 'M', key 'queue': is missing"
    assert str(InvalidDocument("M", "", "is missing")) == "document 'M': is missing"


@pytest.mark.parametrize("kind", [CorruptLeaf, LeafMissing])
def test_an_error_of_a_leaf_names_file_leaf_and_store(kind: type[CorruptLeaf | LeafMissing]) -> None:
    error = kind("F" * 48, 7, "S" * 24)
    text = str(error)
    assert Failure.of(error).leaf == 7
    assert Failure.of(error).store_id == "S" * 24
    assert "leaf 7" in text
    assert "F" * 48 in text
    assert "S" * 24 in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=JSON)
def test_whatever_is_shown_is_one_short_line(value: object) -> None:
    text = shown(value)
    assert 0 < len(text) <= 100
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "value", [10**5000, "x" * 10**6, ["x" * 10**6] * 1000, {"k" * 10**6: 1}, -(10**5000)], ids=type
)
def test_what_is_huge_is_shown_short(value: object) -> None:
    assert len(shown(value)) <= 100


def test_what_is_deep_is_shown_short() -> None:
    value: list[object] = []
    for _ in range(10_000):
        value = [value]
    assert shown(value) == "[[[[...]]]]"[: len(shown(value))]


@given(
    password=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=8, max_size=200),
    before=st.text("0123456789:/@'\"\\\n ü", max_size=300),
    after=st.text("0123456789:/@'\"\\\n ü", max_size=300),
)
def test_the_password_of_a_url_is_never_shown(password: str, before: str, after: str) -> None:
    url = f"https://user:{password}@host/"
    text = f"{before}{url}{after}"
    for value in (text, [text], {"key": text}, {text: 1}):
        assert password not in shown(value)
        assert f"user:{password[:6]}" not in shown(value)
