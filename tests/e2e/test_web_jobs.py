"""Imports and verifications over REST: paused, cancelled, and killed in the middle of their work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Scene
from tests.e2e.jobbing import Rest, carry_on, kill, settled
from tests.factories import file_spec
from tests.waiting import eventually

FILES = 10
TO_IMPORT = 30  # in batches of one, two, four and eight
EACH = 3  # files, or batches, after which a worker stands still


@pytest.fixture
def s3(rclone_s3: object) -> object:
    """None is used."""
    return rclone_s3


def _import(stage: Scene, folder: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """An import: what asks for it, its files and what the log says of each that is done, and where a worker stands."""
    folder.mkdir()
    items = {}
    for number in range(TO_IMPORT):
        path = folder / f"{number}.jpeg"
        path.write_bytes(f"{folder.name} {number}".encode())
        items[str(path)] = f"{path} is file"
    return {"kind": "import", "paths": [str(folder)]}, items, "import.settled"


def _verification(stage: Scene, folder: Path) -> tuple[dict[str, Any], dict[str, str], str]:
    """The verification of the FileStore; likewise."""
    items = {}
    for number in range(FILES):
        data = b"%d" % number
        if not stage.device.path_of(file_spec(data).file_id).exists():
            stage.local_file(data)
        items[file_spec(data).file_id] = f"leaves of file {file_spec(data).file_id} hashed"
    return {"kind": "verify", "store_id": stage.home}, items, "verify.settled"


@pytest.mark.parametrize("prepare", [_import, _verification], ids=["import", "verification"])
def test_a_job_is_cancelled_paused_and_killed_in_the_middle_and_hashes_nothing_twice(
    stage: Scene, tmp_path: Path, prepare: Any
) -> None:
    device, rest, mark = stage.device, Rest(stage.device), tmp_path / "mark"
    device.extra_env.update(DMEDIA_WEB__ENABLED="true", DMEDIA_WEB__PORT="0")
    asked, items, point = prepare(stage, tmp_path / "first")
    count = len(items)
    standing = {"DMEDIA_FAULT": f"{point}:{EACH}", "DMEDIA_FAULT_SIGNAL": "STOP", "DMEDIA_FAULT_MARK": str(mark)}
    device.start(**standing)

    given_up = rest.ask("POST", "/jobs", asked, status=202)["id"]
    eventually(mark.exists)
    running = rest.wait(given_up, "ongoing")
    assert running["kind"] == asked["kind"]
    assert rest.say(given_up, "cancel")
    carry_on(device)
    ended = eventually(lambda: (job := rest.wait(given_up, "cancelled"))["ended"] and job)
    assert EACH <= ended["files_done"] < count

    asked, items, _ = prepare(stage, tmp_path / "second")
    mark.unlink()
    job = rest.ask("POST", "/jobs", asked, status=202)["id"]
    eventually(mark.exists)
    assert rest.say(job, "pause")
    assert not rest.say(job, "pause")
    carry_on(device)
    paused = rest.wait(job, "paused")
    assert (paused["files_done"], paused["files_total"]) == (len(settled(device, job)), count)
    assert EACH <= paused["files_done"] < count
    mark.unlink()

    kill(device)
    first = settled(device, job)
    log = len(device.log())
    device.start(**standing)
    assert rest.job(job)["status"] == "paused"  # until a person resumes it
    assert rest.job(given_up)["status"] == "cancelled"
    assert rest.say(job, "resume")
    eventually(mark.exists)
    assert rest.wait(job, "ongoing")
    kill(device)
    second = settled(device, job)
    assert first < second
    assert len(second) < count
    between = device.log()[log:]
    assert [item for item in first if items[item] in between] == []

    log = len(device.log())
    device.start()
    end = rest.wait(job, "done")
    assert (end["files_done"], end["files_total"]) == (count, count)
    assert sum(end["outcomes"].values()) == count
    assert set(end["outcomes"]) <= {"imported", "known", "verified"}
    after = device.log()[log:]
    assert [item for item in second if items[item] in after] == []
    assert [item for item in items if item not in second and items[item] not in after] == []  # none is missed
