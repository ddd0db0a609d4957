"""The REST API of the installed daemon, as a browser and a program on the same machine have it."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from dmedia_transfer import faults
from tests.device import WAIT_S, eventually
from tests.e2e.acting import LEAF
from tests.e2e.conftest import SERVERS, Scene
from tests.factories import content, file_spec

pytestmark = pytest.mark.parametrize("s3", SERVERS[:1], indirect=True)


@pytest.fixture
def served(stage: Scene) -> Scene:
    """A device whose REST API is on."""
    stage.device.extra_env.update(DMEDIA_WEB__ENABLED="true", DMEDIA_WEB__PORT="0")
    stage.device.start()
    return stage


def test_a_link_opens_the_page_and_what_is_asked_for_there_is_done_and_told(served: Scene) -> None:
    device = served.device
    token_file = device.state_dir / "web.token"
    link = json.loads(device.cli("web", "--json").stdout)["url"]
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((device.folder / "run" / "web.sock").stat().st_mode) == 0o600
    page, _, path = link.removeprefix("http://").partition("/")
    url = f"http://127.0.0.1:{page.rpartition(':')[2]}"

    with requests.Session() as browser:
        headers = {"Host": page}
        opened = browser.get(f"{url}/{path}", headers=headers, allow_redirects=False, timeout=WAIT_S)
        assert (opened.status_code, opened.headers["Location"]) == (303, "/")
        headers["Cookie"] = opened.headers["Set-Cookie"].partition(";")[0]
        assert browser.get(f"{url}/", headers=headers, timeout=WAIT_S).headers["Content-Type"].startswith("text/html")

        data = content(3_000_000)
        file_id = served.remote_file(data)
        events = browser.get(f"{url}/api/v1/events", headers=headers, stream=True, timeout=WAIT_S)
        told: list[Any] = []

        def read() -> None:
            with contextlib.suppress(requests.RequestException):  # the daemon ends
                told.extend(
                    json.loads(line.removeprefix(b"data: "))
                    for line in events.iter_lines(chunk_size=1)
                    if line.startswith(b"data: ")
                )

        reader = threading.Thread(target=read)
        reader.start()
        asked = browser.post(
            f"{url}/api/v1/transfers",
            headers=headers | {"Origin": f"http://{page}"},
            json={"action": "download", "file_ids": [file_id]},
            timeout=WAIT_S,
        )
        assert asked.status_code == 202, asked.text
        (transfer,) = asked.json()["ids"]
        eventually(lambda: device.path_of(file_id).exists())
        assert device.path_of(file_id).read_bytes() == data

        program = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
        history = eventually(
            lambda: requests.get(f"{url}/api/v1/history", headers=program, timeout=WAIT_S).json()["items"]
        )
        assert (history[0]["id"], history[0]["status"], history[0]["bytes"]) == (transfer, "done", len(data))
        stores = requests.get(f"{url}/api/v1/stores", headers=program, timeout=WAIT_S).json()["items"]
        assert {store["id"]: store["usable"] for store in stores} == {served.home: True, served.bucket: True}

        metrics = requests.get(f"{url}/metrics", headers=program, timeout=WAIT_S).text
        values = {
            (one.name.removeprefix("dmedia_transfer_"), *(one.labels[name] for name in sorted(one.labels))): one.value
            for family in text_string_to_metric_families(metrics)
            for one in family.samples
        }
        assert values["network_bytes_total", "s3", "download", served.bucket] == len(data)
        assert values["ended_total", "download", "done"] == 1
        assert values["part_up", "database"] == values["part_up", "feed"] == values["filestore_up", served.home] == 1
        assert values["workers",] >= 1

        assert device.stop() == 0  # at once, although somebody reads events
        reader.join(WAIT_S)
        assert not reader.is_alive()
        statuses = [one["status"] for event in told for one in event.get("changed", []) if one.get("id") == transfer]
        assert statuses[-1] == "done"
    assert not (device.folder / "run" / "web.sock").exists()


def test_a_port_that_is_taken_is_a_problem_and_no_end(served: Scene) -> None:
    device = served.device
    device.stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        device.extra_env["DMEDIA_WEB__PORT"] = str(port)
        device.start()
        listed = json.loads(device.cli("list", "--json").stdout)
    assert any(f"port {port}" in problem for problem in listed["problems"])


@pytest.mark.parametrize("point", faults.ARRIVING_POINTS)
def test_a_new_file_goes_on_arriving_after_a_kill_at(served: Scene, tmp_path: Path, point: str) -> None:
    device, data, mark = served.device, content(LEAF + 500_000), tmp_path / "mark"
    device.kill()
    device.start(DMEDIA_FAULT=point, DMEDIA_FAULT_MARK=str(mark))

    def url() -> str:
        link = str(json.loads(device.cli("web", "--json").stdout)["url"])
        return f"http://127.0.0.1:{link.split('/')[2].rpartition(':')[2]}"

    made_there = url()  # the token is there when the link is
    token = (device.state_dir / "web.token").read_text().strip()
    tus = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
    name = base64.b64encode(b"film.mkv").decode()
    made = requests.post(
        f"{made_there}/api/v1/uploads",
        headers=tus | {"Upload-Length": str(len(data)), "Upload-Metadata": f"filename {name}"},
        timeout=WAIT_S,
    )
    assert made.status_code == 201, made.text
    where = made.headers["Location"].removeprefix(made_there)
    for _ in range(2):
        offset = int(requests.head(url() + where, headers=tus, timeout=WAIT_S).headers["Upload-Offset"])
        send = tus | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        try:
            sent = requests.patch(url() + where, headers=send, data=data[offset:], timeout=WAIT_S)
        except requests.ConnectionError:  # it was killed
            eventually(lambda: not device.is_running)
            device.start()
        else:
            break
    assert mark.exists()
    assert sent.status_code == 204, sent.text
    file_id = file_spec(data).file_id
    eventually(lambda: device.path_of(file_id).exists())
    assert device.path_of(file_id).read_bytes() == data
    facts = eventually(lambda: requests.get(f"{url()}/api/v1/files/{file_id}", headers=tus, timeout=WAIT_S))
    assert facts.json()["name"] == "film.mkv"
