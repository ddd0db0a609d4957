"""The examples do what they say, on a daemon that runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Scene
from tests.factories import content

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.parametrize("s3", ["moto_s3"], indirect=True)


def run(scene: Scene, *command: str) -> subprocess.CompletedProcess[str]:
    """An example, on the bus of the device."""
    return subprocess.run(command, env=scene.device.env, capture_output=True, text=True, timeout=60, check=False)


def test_the_progress_bar_brings_a_file_and_says_where_it_is(scene: Scene) -> None:
    file_id = scene.remote_file(content(300_000))
    for _ in ("it is brought", "it is there"):
        done = run(scene, sys.executable, str(EXAMPLES / "progress_bar.py"), file_id)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == str(scene.device.path_of(file_id))
    wrong = run(scene, sys.executable, str(EXAMPLES / "progress_bar.py"), "film")
    assert wrong.returncode == 1
    assert "'film' is not a file ID" in wrong.stderr


def test_busctl_alone_brings_a_file(scene: Scene) -> None:
    file_id = scene.remote_file(content(300_001))
    done = run(scene, "sh", str(EXAMPLES / "busctl.sh"), file_id)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"/org/dmedia/Transfer1/downloads/{file_id}"
    assert lines[1:3] == ["b true", "b true"]
    assert lines[-1] == f'ss "here" "{scene.device.path_of(file_id)}"'
