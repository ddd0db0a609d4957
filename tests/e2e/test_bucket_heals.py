"""A corrupt object in a bucket is found, and sent there again by a machine that has the file."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Scene
from tests.e2e.jobbing import Rest
from tests.factories import content
from tests.waiting import eventually


@pytest.fixture
def s3(moto_s3: object) -> object:
    """One server will do."""
    return moto_s3


def test_a_corrupt_object_is_sent_again_and_nothing_else_is(stage: Scene) -> None:
    device, rest = stage.device, Rest(stage.device)
    device.extra_env.update(DMEDIA_WEB__ENABLED="true", DMEDIA_WEB__PORT="0")
    good, bad = content(500_000, seed=1), content(700_000, seed=2)
    ids = [stage.local_file(data) for data in (good, bad)]
    for file_id, data in zip(ids, (good, bad), strict=True):
        stage.put_object(file_id, data)
        raw = device.get(file_id)
        raw["stored"][stage.bucket] = {"copies": 1, "time": 1.0}
        device.put(raw)
    stage.put_object(ids[1], bad[:-1] + bytes([bad[-1] ^ 1]))
    before = stage.s3.client().head_object(Bucket=stage.s3.bucket, Key=stage.key(ids[0]))["LastModified"]
    device.start()

    device.cli("verify", stage.bucket, "--wait", check=False)
    eventually(lambda: device.get(ids[1])["stored"][stage.bucket].get("corrupt") == [0])
    (trouble,) = eventually(lambda: rest.ask("GET", "/problems")["items"])
    assert (trouble["file_id"], trouble["store_id"], trouble["can"]) == (ids[1], stage.bucket, ["upload"])

    def healed() -> bool:
        line = device.get(ids[1])["stored"][stage.bucket]
        return bool(line["copies"] == 1 and "corrupt" not in line)

    again = {"action": "upload", "file_ids": [ids[1]], "store_id": stage.bucket}
    rest.ask("POST", "/transfers", again, status=202)
    eventually(healed)
    assert stage.get_object(ids[1]) == bad
    assert stage.s3.client().head_object(Bucket=stage.s3.bucket, Key=stage.key(ids[0]))["LastModified"] == before
    eventually(lambda: rest.ask("GET", "/problems")["items"] == [])

    stage.put_object(ids[1], bytes([bad[0] ^ 1]) + bad[1:])
    done = device.cli("verify", stage.bucket, "--heal", "--json", check=False)
    assert '"corrupt": 1' in done.stdout
    eventually(healed)
    assert stage.get_object(ids[1]) == bad
