"""Imports and verifications as a user has them: a daemon that is killed, a disk that lies, a bucket that heals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.client import JobState
from dmedia_transfer.states import Status
from tests.device import Device
from tests.e2e.conftest import Scene
from tests.e2e.jobbing import kill, settled
from tests.factories import content
from tests.waiting import WAIT_S, eventually

FILES = 12


@pytest.fixture
def s3(rclone_s3: object) -> object:
    """One server will do: what is special about each of them is tested elsewhere."""
    return rclone_s3


def names_in(device: Device) -> list[str]:
    """The names of all files that the database knows."""
    with device.http() as (session, url):
        answer = session.post(f"{url}/_find", json={"selector": {"type": "dmedia/file"}, "limit": 100}, timeout=WAIT_S)
    return sorted(raw["name"] for raw in answer.json()["docs"])


def wait_for(device: Device, job_id: str) -> JobState:
    """The end of a job."""
    with device.client() as client:
        return client.job(job_id).wait(timeout_s=WAIT_S)


def test_a_daemon_that_is_killed_in_an_import_goes_on_where_it_was(stage: Scene, tmp_path: Path) -> None:
    device = stage.device
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"{number}.jpeg").write_bytes(b"%d" % number)
    device.start(DMEDIA_FAULT="import.settled:2")  # each worker dies after two batches: three files
    job = json.loads(device.cli("import", str(folder), "--background", "--json").stdout)
    eventually(lambda: len(settled(device)) >= 3)
    before = kill(device)
    assert len(before) < FILES
    told = len(device.log())
    device.start()
    end = wait_for(device, job["id"])
    outcomes = dict(end.outcomes)
    assert outcomes.pop("known", 0) <= 1  # published at the moment of the kill, and not settled
    assert (end.status, end.files_done, [*outcomes]) == (Status.DONE, FILES, ["imported"])
    later = device.log()[told:]
    again = [path for path in before if f"{path} is file" in later]
    assert again == []
    assert all(f"{path} is file" in later for path in map(str, folder.iterdir()) if path not in before)
    expected = sorted(f"{number}.jpeg" for number in range(FILES))
    eventually(lambda: names_in(device) == expected)


def test_a_corrupt_byte_is_found_and_healed_from_the_bucket(scene: Scene) -> None:
    device = scene.device
    data = content(2 * leaves.LEAF_BYTES + 5)
    file_id = device.add_file(data, scene.home, scene.bucket, name="film.mkv")
    scene.put_object(file_id, data)
    path = device.path_of(file_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    done = device.cli("verify", "--wait", "--json", check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["outcomes"] == {"corrupt": 1}
    assert [(each["file_id"], each["leaves"]) for each in found["problems"]] == [(file_id, [2])]
    assert not path.exists()
    assert (device.store_dir / "quarantine" / file_id[:2] / file_id).exists()
    line = eventually(lambda: (told := device.get(file_id)["stored"][scene.home])["copies"] == 0 and told)
    assert line["corrupt"] == [2]

    fetched = scene.proxy.bytes_down
    device.cli("heal", "film.mkv")
    eventually(path.exists)
    assert path.read_bytes() == data
    assert scene.proxy.bytes_down - fetched < leaves.LEAF_BYTES  # the good leaves were here
    line = eventually(lambda: (told := device.get(file_id)["stored"][scene.home])["copies"] == 1 and told)
    assert "corrupt" not in line
    assert list((device.store_dir / "quarantine").rglob("*/*")) == []


def test_a_killed_verification_of_a_bucket_goes_on_and_tells_the_documents(stage: Scene) -> None:
    device = stage.device
    files = {data: stage.remote_file(data) for data in (b"%d" % number for number in range(6))}
    stage.put_object(files[b"3"], b"!")
    stage.s3.client().delete_object(Bucket=stage.s3.bucket, Key=stage.key(files[b"4"]))
    device.start(DMEDIA_FAULT="verify.settled:2")
    with device.client() as client:
        job = client.verify(stage.bucket)
    eventually(lambda: len(settled(device)) >= 3)
    before = kill(device)
    told = len(device.log())
    device.start()
    end = wait_for(device, job.id)
    assert (end.status, dict(end.outcomes)) == (Status.DONE, {"verified": 4, "corrupt": 1, "missing": 1})
    later = device.log()[told:]
    assert [file_id for file_id in before if f"file {file_id} is settled" in later] == []

    def copies() -> list[int]:
        return [device.get(file_id)["stored"][stage.bucket]["copies"] for file_id in files.values()]

    eventually(lambda: copies() == [1, 1, 1, 0, 0, 1])
