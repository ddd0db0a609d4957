"""Copying: one batch is copied while the one before is published and told of; and what is thrown away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dmedia_transfer.jobs.copying import copied
from tests.waiting import WAIT_S


class Batch:
    """Staged files of one batch, and what was done with them."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name = name
        self.said = said

    def publish(self) -> Mapping[Path, object]:
        self.said.append(f"{self.name} published")
        return {}

    def close(self) -> None:
        self.said.append(f"{self.name} closed")


def test_while_one_is_told_of_the_next_one_is_copied_and_not_published() -> None:
    said: list[str] = []
    second = threading.Event()

    def stage(batch: list[str], abandoned: Callable[[], bool]) -> Batch:
        if batch == ["b"]:
            second.set()
        return Batch(batch[0], said)

    done = copied([["a"], ["b"]], stage)  # type: ignore[arg-type]  # of what becomes of files nothing is asked here
    assert next(done)[0] == ["a"]
    assert second.wait(WAIT_S)
    assert said == ["a published", "a closed"]
    assert [batch for batch, _ in done] == [["b"]]
    assert said[2:] == ["b published", "b closed"]


def test_a_batch_for_which_nobody_waits_is_told_so_and_thrown_away() -> None:
    said: list[str] = []

    def stage(batch: list[str], abandoned: Callable[[], bool]) -> Batch:
        if batch == ["b"]:
            while not abandoned():
                time.sleep(0.001)
            said.append("b abandoned")
        return Batch(batch[0], said)

    done = copied([["a"], ["b"]], stage)  # type: ignore[arg-type]
    next(done)
    done.close()
    assert said == ["a published", "a closed", "b abandoned", "b closed"]


def test_what_was_copied_before_is_told_before_an_error_is() -> None:
    said: list[str] = []

    def stage(batch: list[str], abandoned: Callable[[], bool]) -> Batch:
        if batch == ["b"]:
            raise ValueError("b")
        return Batch(batch[0], said)

    done = copied([["a"], ["b"], ["c"]], stage)  # type: ignore[arg-type]
    assert next(done)[0] == ["a"]
    with pytest.raises(ValueError, match="b"):
        next(done)
    assert said == ["a published", "a closed"]
