"""What the REST API does: transfers asked for and steered, here and on other machines; the queue, limits, jobs."""

from __future__ import annotations

from typing import Any

import pytest

from dmedia_transfer import documents
from dmedia_transfer.errors import StoreMissing
from dmedia_transfer.model import Direction, Failure, FileOutcome, JobProblem, Progress, Transfer, TransferKey
from dmedia_transfer.states import Event, Status
from tests.factories import STORE_ID, content, file_spec
from tests.web import WebHost, reading

FILM = file_spec(content(1000, seed=1))
SONG = file_spec(content(2000, seed=2))
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILM.file_id, "")
ID = f"download-{FILM.file_id}"
OTHER_MACHINE = "N" * 24


def test_one_and_many_are_asked_for_with_one_request(web: WebHost) -> None:
    asked = {"action": "download", "file_ids": [FILM.file_id, SONG.file_id, FILM.file_id], "priority": 10}
    told = web.post("/transfers", asked, status=202)
    assert told == {"ids": [ID, f"download-{SONG.file_id}"]}
    assert [(one.file_id, one.priority, one.direction) for one in web.control.entries] == [
        (FILM.file_id, 10, Direction.DOWNLOAD),
        (SONG.file_id, 10, Direction.DOWNLOAD),
    ]
    assert web.get("/transfers")["total"] == 2  # at once, whatever the mirror has to do
    web.post("/transfers", {"action": "upload", "file_ids": [FILM.file_id], "store_id": STORE_ID}, status=202)
    assert web.control.entries[-1].key == TransferKey(Direction.UPLOAD, FILM.file_id, STORE_ID)
    only = {"action": "download", "file_ids": [SONG.file_id], "only_from": STORE_ID, "paused": True}
    web.post("/transfers", only, status=202)
    assert (web.control.entries[-1].only, web.control.entries[-1].store_id) == (True, STORE_ID)


def test_ten_thousand_are_asked_for_with_one_request(web: WebHost) -> None:
    ids = [f"{number:048d}".translate(str.maketrans("0189", "ABCD")) for number in range(10_000)]
    assert len(web.post("/transfers", {"action": "download", "file_ids": ids}, status=202)["ids"]) == 10_000
    assert web.get("/transfers?limit=1")["total"] == 10_000


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"action": "download", "file_ids": []}, "file_ids"),
        ({"action": "download", "file_ids": ["x"]}, "file_ids.0"),
        ({"action": "upload", "file_ids": [FILM.file_id]}, "store_id"),
        ({"action": "download", "file_ids": [FILM.file_id], "extra": 1}, "extra"),
        ({"action": "download", "file_ids": [FILM.file_id], "priority": "10"}, "priority"),
        ({"action": "download", "file_ids": [FILM.file_id], "paused": 1}, "paused"),
        ({"action": "fetch", "file_ids": [FILM.file_id]}, "fetch"),
        ([], "body"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(web: WebHost, body: Any, word: str) -> None:
    answer = web.ask("POST", "/api/v1/transfers", json=body)
    assert answer.status_code == 400
    assert word in answer.json()["detail"]
    assert web.control.entries == []


def test_no_json_is_refused(web: WebHost) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"{", b"\xff", b"", b"NaN"):
        assert web.ask("POST", "/api/v1/transfers", data=body, headers=headers).status_code == 400
    assert web.ask("POST", "/api/v1/transfers", data=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


def test_a_transfer_is_steered_and_the_answer_says_whether_that_changed_anything(web: WebHost) -> None:
    web.main.call(web.control.add, Transfer(DOWNLOAD))
    for verb, status in (("pause", "paused"), ("resume", "queued")):
        assert web.post(f"/transfers/{ID}/{verb}") == {"changed": True}
        assert web.post(f"/transfers/{ID}/{verb}") == {"changed": False}
        assert web.get(f"/transfers/{ID}")["status"] == status
        assert web.get("/transfers")["items"][0]["status"] == status
    assert web.post(f"/transfers/{ID}/priority", {"priority": 100}) == {"changed": True}
    assert web.get(f"/transfers/{ID}")["priority"] == 100
    assert web.post(f"/transfers/{ID}/metered", {"metered": True}) == {"changed": True}
    assert web.post("/steer", {"verb": "spare", "ids": [ID]}) == {"changed": [ID], "unknown": []}
    assert web.get(f"/transfers/{ID}")["metered"] is False
    assert web.post(f"/transfers/{ID}/retry") == {"changed": False}
    web.main.call(web.control.on, DOWNLOAD, Event.FAIL, failure=Failure("Permanent", "no"))
    assert web.post(f"/transfers/{ID}/retry") == {"changed": True}
    assert web.post(f"/transfers/{ID}/cancel") == {"changed": True}
    answer = web.ask("POST", f"/api/v1/transfers/download-{SONG.file_id}/pause")
    assert (answer.status_code, answer.json()["code"]) == (404, "org.dmedia.Transfer1.Error.Unknown")


def test_many_are_steered_with_one_request(web: WebHost) -> None:
    song = DOWNLOAD._replace(file_id=SONG.file_id)
    web.main.call(web.control.add, Transfer(DOWNLOAD))
    web.main.call(web.control.add, Transfer(song, status=Status.PAUSED))
    gone = f"download-{'Z' * 48}"
    told = web.post("/steer", {"verb": "pause", "ids": [ID, f"download-{SONG.file_id}", gone]})
    assert told == {"changed": [ID], "unknown": [gone]}


def test_transfers_get_another_place_in_the_queue_here_and_elsewhere(web: WebHost) -> None:
    keys = [DOWNLOAD._replace(file_id=letter * 48) for letter in "ABC"]
    for order, key in enumerate(keys, start=1):
        web.main.call(web.control.add, Transfer(key, order=order))
    first, _, third = (f"download-{key.file_id}" for key in keys)
    assert web.post("/order", {"ids": [third], "before": first}) == {"changed": True}
    assert next(one["id"] for one in web.get("/transfers")["items"]) == third
    assert web.post("/order", {"ids": [third], "before": None}) == {"changed": True}
    assert [one["id"] for one in web.get("/transfers")["items"]][-1] == third
    assert web.post("/order", {"ids": [third], "before": third}) == {"changed": False}
    queue = [{"id": letter, "file_id": letter * 48} for letter in "ABC"]
    web.documents.put(documents.new_machine(OTHER_MACHINE, "tv", time=1.0) | {"queue": queue})
    assert web.post("/order?machine=tv", {"ids": [third, first], "before": None}) == {"changed": True}
    assert [raw["id"] for raw in web.documents.raws[OTHER_MACHINE]["queue"]] == ["B", "C", "A"]
    assert [one["file_id"][0] for one in web.get("/transfers?machine=tv")["items"]] == ["B", "C", "A"]


def test_a_transfer_of_another_machine_may_cost_or_not(web: WebHost) -> None:
    web.documents.put(
        documents.new_machine(OTHER_MACHINE, "tv", time=1.0) | {"queue": [{"id": "A", "file_id": "A" * 48}]}
    )
    one = f"download-{'A' * 48}"
    assert web.post(f"/transfers/{one}/metered?machine=tv", {"metered": True}) == {"changed": True}
    assert web.documents.raws[OTHER_MACHINE]["queue"][0]["metered"] is True
    assert web.get(f"/transfers/{one}?machine=tv")["metered"] is True
    assert web.post("/steer?machine=tv", {"verb": "spare", "ids": [one]}) == {"changed": [one], "unknown": []}
    assert web.documents.raws[OTHER_MACHINE]["queue"][0]["metered"] is False


def test_the_whole_queue_is_held_and_let_go(web: WebHost) -> None:
    assert web.post("/queue/pause") == {"changed": True}
    assert web.post("/queue/pause") == {"changed": False}
    assert web.get("/queue")["paused"] is True
    assert web.post("/queue/resume") == {"changed": True}


def test_limits_are_changed_one_by_one_and_the_timetable_with_them(web: WebHost) -> None:
    changed = web.ask("PATCH", "/api/v1/limits", json={"download_bps": 1000, "connections": 8}).json()
    assert (changed["download_bps"], changed["connections"], changed["timetable"]) == (1000, 8, [])
    assert web.control.limits[-1] == {"download_bps": 1000, "connections": 8}
    table = [{"time": "00:00", "bps": 2_000_000}, {"time": "00:00", "stop": True}]
    changed = web.ask("PATCH", "/api/v1/limits", json={"timetable": table}).json()
    assert changed["timetable"] == [{"time": "00:00", "bps": None, "stop": True}]
    assert changed["stopped"] is True
    assert web.ask("PATCH", "/api/v1/limits", json={"timetable": []}).json()["stopped"] is False
    assert web.ask("PATCH", "/api/v1/limits", json={"max_transfers": 65}).status_code == 400


def test_an_error_of_the_manager_is_told_with_its_name_on_d_bus(web: WebHost) -> None:
    web.control.fail_with = StoreMissing("store X is not there")
    answer = web.ask("POST", "/api/v1/queue/pause")
    assert answer.status_code == 409
    assert answer.json()["code"] == "org.dmedia.Transfer1.Error.StoreMissing"
    assert answer.json()["detail"] == "store X is not there"


def test_a_fault_of_ours_tells_nothing_of_its_inside(web: WebHost) -> None:
    web.control.fail_with = RuntimeError("secret")
    answer = web.ask("POST", "/api/v1/queue/pause")
    assert (answer.status_code, answer.json()["code"]) == (500, "org.dmedia.Transfer1.Error.Internal")
    assert "secret" not in answer.text


def test_the_queue_of_another_machine_is_edited_in_its_document(web: WebHost) -> None:
    web.documents.put(documents.new_machine(OTHER_MACHINE, "tv", time=1.0))
    asked = {"action": "download", "file_ids": [FILM.file_id]}
    assert web.post("/transfers?machine=tv", asked, status=202) == {"ids": [ID]}
    entry = web.documents.raws[OTHER_MACHINE]["queue"][0]
    assert entry["file_id"] == FILM.file_id
    assert web.control.entries == []
    assert web.post(f"/transfers/{ID}/pause?machine=tv") == {"changed": True}
    assert web.post(f"/transfers/{ID}/priority?machine=tv", {"priority": 5}) == {"changed": True}
    told = web.get(f"/transfers/{ID}?machine=tv")
    assert (told["status"], told["priority"]) == ("paused", 5)
    assert web.post("/queue/pause?machine=tv") == {"changed": True}
    assert web.get("/queue?machine=tv") == {"paused": True, "entries": 1}
    assert web.post("/steer?machine=tv", {"verb": "cancel", "ids": [ID]})["changed"] == [ID]
    assert web.documents.raws[OTHER_MACHINE]["queue"] == []


def test_a_job_is_started_at_once_looked_at_and_steered(web: WebHost) -> None:
    told = web.post("/jobs", {"kind": "import", "paths": ["/home/anna/films"], "requested_by": "me"}, status=202)
    assert (told["kind"], told["status"], told["paths"]) == ("import", "queued", ["/home/anna/films"])
    path = f"/jobs/{told['id']}"
    assert web.get(path)["requested_by"] == "me"
    assert web.post(f"{path}/pause") == {"changed": True}
    assert web.post(f"{path}/pause") == {"changed": False}
    assert web.get("/jobs?status=paused")["items"][0]["why"] == "paused by a person"
    assert web.post(f"{path}/resume") == {"changed": True}
    assert web.post(f"{path}/retry") == {"changed": False}
    assert web.post(f"{path}/forget") == {"changed": False}
    assert web.post(f"{path}/cancel") == {"changed": True}
    assert web.post(f"{path}/forget") == {"changed": True}
    assert web.ask("GET", f"/api/v1{path}").status_code == 404
    assert web.ask("POST", "/api/v1/jobs", json={"kind": "import", "paths": ["films"]}).status_code == 409
    assert web.ask("POST", "/api/v1/jobs", json={"kind": "verify"}).status_code == 400


def test_what_a_verification_finds_is_a_problem_until_it_is_healed(web: WebHost) -> None:
    web.add_filestore()
    web.add_file(FILM)
    job_id = web.post("/jobs", {"kind": "verify", "store_id": STORE_ID}, status=202)["id"]
    assert web.post("/jobs", {"kind": "verify", "store_id": STORE_ID}, status=202)["id"] == job_id
    corrupt = JobProblem(
        FileOutcome.CORRUPT, "film.mkv is damaged", file_id=FILM.file_id, store_id=STORE_ID, leaves=(3,)
    )
    web.main.call(web.jobs.find, job_id, corrupt, JobProblem(FileOutcome.FAILED, "cannot be read", path="/x/\udcff"))
    told = web.get(f"/jobs/{job_id}/problems?limit=10")
    assert told["total"] == 2
    assert (told["items"][0]["leaves"], told["items"][1]["path"]) == ([3], "/x/\N{REPLACEMENT CHARACTER}")
    first, second = web.get("/problems")["items"]
    assert (first["can"], first["file_id"], first["job_id"]) == (["heal"], FILM.file_id, job_id)
    assert second["can"] == []
    assert web.post(f"/files/{FILM.file_id}/heal", status=202) == {"ids": [ID]}
    assert web.jobs.healed == [FILM.file_id]
    web.add_file(FILM, STORE_ID)  # the document says so by now
    assert [one["message"] for one in web.get("/problems")["items"]] == ["cannot be read"]


def test_what_jobs_do_is_told(web: WebHost) -> None:
    with reading(web) as reader:
        reader.next()
        job_id = web.post("/jobs", {"kind": "verify", "store_id": STORE_ID}, status=202)["id"]
        told = reader.until(lambda event: event.kind == "jobs" and event.data["changed"])
        assert told[-1].data["changed"][0]["id"] == job_id
        web.main.call(web.jobs.move, job_id, progress=Progress(5, 10, 2.0), files_done=3)
        told = reader.until(lambda event: event.kind == "progress")
        assert told[-1].data["jobs"] == [[job_id, 5, 10, 2, None, 3]]
        web.main.call(web.jobs.reset)
        assert reader.until(lambda event: event.kind == "jobs")[-1].data["removed"] == [job_id]
