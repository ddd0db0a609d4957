"""Journals in temporary folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dmedia_transfer.journal import Journal
from tests.drives import Drive


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new journal."""
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """A disk of 1 MiB."""
    drive = Drive(tmp_path / "disk", 1024 * 1024)
    yield drive
    drive.remove()
