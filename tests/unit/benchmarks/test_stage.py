"""What is measured lies in memory where there is room, or where the environment says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.stage import payload_folder


def test_files_are_where_the_environment_says_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMEDIA_BENCH_DIR", str(tmp_path))
    with payload_folder(1) as folder:
        assert folder.parent == tmp_path
        (folder / "film").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_into_memory_is_on_a_disk_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DMEDIA_BENCH_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with payload_folder(2**60) as folder:
        assert folder.parent == tmp_path
    assert "files are on a disk" in capsys.readouterr().err
