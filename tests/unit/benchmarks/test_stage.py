"""What is measured lies on the disk of temporary files, or where the environment says."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.common import RunFailed
from benchmarks.stage import payload_folder


def test_files_are_where_the_environment_says_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMEDIA_BENCH_DIR", str(tmp_path))
    with payload_folder(1) as folder:
        assert folder.parent == tmp_path
        (folder / "film").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DMEDIA_BENCH_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with payload_folder(1) as folder:
        assert folder.parent == tmp_path
    with pytest.raises(RunFailed, match="no room"), payload_folder(2**60):
        pass
