"""What the REST API tells: transfers, stores, machines, history, problems."""

from __future__ import annotations

import time

import pytest

from dmedia_transfer import documents, statusdoc
from dmedia_transfer.errors import DatabaseUnavailable, NoSource
from dmedia_transfer.model import Direction, Failure, Progress, SourceUse, Transfer, TransferKey
from dmedia_transfer.states import Event, Reason, Status
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec
from tests.web import WebHost

FILM = file_spec(content(1000, seed=1))
SONG = file_spec(content(2000, seed=2))
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILM.file_id, "")
UPLOAD = TransferKey(Direction.UPLOAD, SONG.file_id, STORE_ID)
OTHER_MACHINE = "N" * 24


def add(web: WebHost, *transfers: Transfer) -> None:
    for transfer in transfers:
        web.main.call(web.control.add, transfer)


def test_a_transfer_is_told_with_its_name_and_why_it_waits(web: WebHost) -> None:
    web.add_file(FILM, name="film.mkv")
    add(web, Transfer(DOWNLOAD, preferred_store=STORE_ID, time=5.0, order=1, progress=Progress(1, 1000)))
    web.main.call(
        web.control.on,
        DOWNLOAD,
        Event.SUSPEND,
        Reason.NO_SOURCE,
        failure=Failure.of(NoSource("no store is known to have it")),
    )
    told = web.get(f"/transfers/download-{FILM.file_id}")
    assert (told["name"], told["action"], told["file_id"]) == ("film.mkv", "download", FILM.file_id)
    assert (told["status"], told["reason"], told["store_id"]) == ("suspended", "no-source", STORE_ID)
    assert told["why"] == "waits for a store that has the file: no store is known to have it"
    assert told["error"]["kind"] == "NoSource"
    assert told["error"]["advice"].startswith("Upload the file")
    assert (told["bytes_done"], told["bytes_total"]) == (1, 1000)


def test_transfers_are_filtered_sorted_and_paged(web: WebHost) -> None:
    add(
        web,
        Transfer(DOWNLOAD, order=1, priority=-10),
        Transfer(UPLOAD, order=2, status=Status.FAILED, failure=Failure("Permanent", "no")),
        Transfer(DOWNLOAD._replace(file_id=SONG.file_id), order=3, preferred_store=STORE_ID),
    )
    first = web.get("/transfers?limit=1")
    assert first["total"] == 3
    assert [one["file_id"] for one in first["items"]] == [SONG.file_id]
    assert first["items"][0]["action"] == "upload"
    rest = web.get("/transfers?limit=5&offset=1")["items"]
    assert [(one["action"], one["priority"]) for one in rest] == [("download", 0), ("download", -10)]
    assert [one["status"] for one in web.get("/transfers?status=failed&status=paused")["items"]] == ["failed"]
    assert web.get("/transfers?action=download")["total"] == 2
    assert web.get(f"/transfers?file_id={FILM.file_id}")["total"] == 1
    assert web.get(f"/transfers?store_id={STORE_ID}")["total"] == 2
    assert next(one["status"] for one in web.get("/transfers?sort=urgency")["items"]) == "failed"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=1.0", "offset=-1", "status=nothing", "x=1", "limit=1&limit=2"]
)
def test_a_query_that_cannot_be_used_is_refused_by_name(web: WebHost, query: str) -> None:
    answer = web.ask("GET", f"/api/v1/transfers?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["detail"]


def test_ten_thousand_transfers_cost_the_main_loop_nothing(web: WebHost) -> None:
    def fill() -> None:
        for number in range(10_000):
            file_id = f"{number:048d}".translate(str.maketrans("0189", "ABCD"))
            web.control.add(Transfer(TransferKey(Direction.DOWNLOAD, file_id, ""), order=number))

    web.main.call(fill)
    assert web.get("/transfers?limit=1")["total"] == 10_000
    asked = web.documents.reads
    web.main.call_soon(lambda: time.sleep(1.0))  # the main loop is busy, and nobody notices
    began = time.monotonic()
    for offset in range(0, 10_000, 1000):
        page = web.get(f"/transfers?offset={offset}&limit=100")
        assert len(page["items"]) == 100
    assert time.monotonic() - began < 20
    assert web.documents.reads - asked <= 10


def test_without_a_database_a_list_has_no_names_and_nothing_else_is_missing(web: WebHost) -> None:
    nameless = file_spec(content(10, seed=77))
    web.documents.fail_with = DatabaseUnavailable("CouchDB does not answer")
    add(web, Transfer(DOWNLOAD._replace(file_id=nameless.file_id)))
    assert web.get("/transfers")["items"][0]["name"] is None
    answer = web.ask("GET", "/api/v1/machines")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert answer.json()["code"] == "org.dmedia.Transfer1.Error.DatabaseUnavailable"


def test_the_summary_counts(web: WebHost) -> None:
    add(web, Transfer(DOWNLOAD), Transfer(UPLOAD, status=Status.FAILED))
    web.main.call(web.control.change_summary, queue_paused=True, problems=("no database",))
    told = web.get("/summary")
    assert (told["hostname"], told["queue_paused"], told["problems"]) == ("desk", True, 1)
    assert told["counts"] == {"queued": 1, "failed": 1}
    assert web.get("/queue") == {"paused": True, "entries": 1}


def test_stores_are_told_with_their_room_and_why_one_cannot_be_used(web: WebHost) -> None:
    store = web.add_filestore(STORE_ID, name="shelf")
    raw = documents.new_store(OTHER_STORE_ID, "s3", time=1.0, name="films", bucket="our-films")
    web.stores.on_store(raw)
    shelf, bucket = web.get("/stores")["items"]
    assert (shelf["name"], shelf["plugin"], shelf["local"], shelf["usable"]) == ("shelf", "filestore", True, True)
    assert shelf["where"] == str(store.root)
    assert 0 < shelf["free_bytes"] <= shelf["total_bytes"]
    assert (bucket["name"], bucket["where"], bucket["usable"]) == ("films", "our-films", False)
    assert "was not enabled" in bucket["problem"]
    assert "stores enable" in bucket["advice"]
    assert bucket["free_bytes"] is None


def test_machines_are_told_with_what_they_do(web: WebHost) -> None:
    other = documents.new_machine(OTHER_MACHINE, "tv", time=1.0) | {"queue": [{"file_id": FILM.file_id}]}
    web.documents.put(other)
    moving = Transfer(DOWNLOAD, status=Status.ONGOING, progress=Progress(5, 1000, rate=7.0))
    gone = statusdoc.Finished(Transfer(UPLOAD, status=Status.FAILED, failure=Failure("NoSource", "no")), time=40.0)
    web.documents.put(
        statusdoc.write_status(OTHER_MACHINE, [moving], finished=[gone], problems=["its disk is full"], time=50.0)
    )
    this, tv = web.get("/machines")["items"]
    assert (this["hostname"], this["this"]) == ("desk", True)
    assert (tv["id"], tv["queued"], tv["heard"], tv["download_rate"]) == (OTHER_MACHINE, 1, 50.0, 7.0)
    assert tv["problems"] == ["its disk is full"]
    (ended,) = web.get("/history?machine=tv")["items"]
    assert (ended["file_id"], ended["status"], ended["error"], ended["time"]) == (UPLOAD.file_id, "failed", "no", 40.0)
    assert web.get("/history?machine=tv&status=done")["items"] == []
    for name in ("tv", OTHER_MACHINE):
        page = web.get(f"/transfers?machine={name}")
        assert [(one["file_id"], one["status"], one["bytes_done"]) for one in page["items"]] == [
            (FILM.file_id, "ongoing", 5)
        ]
        assert page["event_id"] == ""
    assert web.get("/summary?machine=tv")["active"] == 1
    assert web.get("/problems?machine=tv")["items"][0]["message"] == "its disk is full"
    answer = web.ask("GET", "/api/v1/transfers?machine=radio")
    assert (answer.status_code, answer.json()["code"]) == (404, "org.dmedia.Transfer1.Error.Unknown")


def test_history_is_the_journals(web: WebHost) -> None:
    song = file_spec(content(2000, seed=3))
    web.add_file(song, name="song.ogg")
    web.journal.ledger.ended(UPLOAD._replace(file_id=song.file_id), ["a"], Status.DONE, 2000)
    web.journal.ledger.ended(DOWNLOAD, ["b"], Status.CANCELLED, 1000)
    web.journal.ledger.failed(DOWNLOAD, ["c"], Failure("NoSource", "no store has it"), 1000)
    told = web.get("/history")
    assert [(one["status"], one["bytes"]) for one in told["items"]] == [
        ("failed", 1000),
        ("cancelled", 1000),
        ("done", 2000),
    ]
    assert told["items"][0]["error"] == "no store has it"
    assert told["items"][2]["name"] == "song.ogg"
    assert web.get("/history?status=failed")["total"] == 1
    assert web.get("/history?status=done")["total"] == 1
    assert web.get("/history?offset=3")["items"] == []


def test_problems_say_what_to_do(web: WebHost) -> None:
    add(web, Transfer(UPLOAD, status=Status.FAILED, failure=Failure("AccessDenied", "the store refuses us")))
    web.main.call(web.control.change_summary, problems=("CouchDB at http://x does not answer",))
    first, second = web.get("/problems")["items"]
    assert first["message"] == "CouchDB at http://x does not answer"
    assert first["advice"]
    assert second["transfer_id"] == f"upload-{SONG.file_id}-{STORE_ID}"
    assert second["can"] == ["retry", "cancel"]
    assert second["advice"].startswith("Check the credentials")


def test_sources_say_where_a_file_is_and_what_is_read_from(web: WebHost) -> None:
    web.add_filestore(STORE_ID, name="shelf")
    web.add_file(FILM, STORE_ID, OTHER_STORE_ID)
    add(web, Transfer(DOWNLOAD, status=Status.ONGOING, sources=(SourceUse(STORE_ID, 7),)))
    shelf, other = web.get(f"/transfers/download-{FILM.file_id}/sources")["items"]
    assert (shelf["store_id"], shelf["use"]["received_bytes"], shelf["usable"], shelf["copies"]) == (
        STORE_ID,
        7,
        True,
        1,
    )
    assert (other["store_id"], other["use"], other["usable"]) == (OTHER_STORE_ID, None, False)


def test_files_are_found_by_name_and_by_id(web: WebHost) -> None:
    web.add_filestore(STORE_ID)
    web.add_file(FILM, STORE_ID, name="film.mkv", mime="video/x-matroska")
    for query in ("film.mkv", FILM.file_id, FILM.file_id[:8]):
        (found,) = web.get(f"/files?q={query}")["items"]
        assert found == {
            "id": FILM.file_id,
            "name": "film.mkv",
            "mime": "video/x-matroska",
            "bytes": 1000,
            "stored": {STORE_ID: 1},
            "here": False,
        }
    assert web.get(f"/files/{FILM.file_id}") == found
    assert web.ask("GET", f"/api/v1/files/{'A' * 48}").status_code == 404


def test_rates_are_kept_for_a_graph(web: WebHost) -> None:
    add(web, Transfer(DOWNLOAD, progress=Progress(0, 1000)))
    web.main.call(web.control.on, DOWNLOAD, Event.START)
    deadline = time.monotonic() + 20
    done = 0
    while not any(sample["download"] > 0 for sample in web.get("/rates")["samples"]):
        assert time.monotonic() < deadline
        done += 10
        web.main.call(web.control.move, DOWNLOAD, done)
        time.sleep(0.05)
    own = web.get(f"/transfers/download-{FILM.file_id}/rates")["samples"]
    assert any(sample["download"] > 0 for sample in own)
    assert all(sample["upload"] == 0 for sample in own)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("DELETE", "/api/v1/summary", 405),
        ("GET", "/api/v1/transfers/x", 404),
        ("GET", f"/api/v1/transfers/download-{'A' * 48}", 404),
        ("GET", "/api/v1/summary?x=1", 400),
    ],
)
def test_what_is_not_there_is_a_problem_in_the_form_of_rfc_9457(
    web: WebHost, method: str, path: str, status: int
) -> None:
    answer = web.ask(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"].startswith("org.dmedia.Transfer1.Error.")
    assert problem["detail"]
    if status == 405:
        assert answer.headers["Allow"] == "GET, HEAD"


def test_a_head_is_a_get_without_its_body(web: WebHost) -> None:
    answer = web.ask("HEAD", "/api/v1/summary")
    assert (answer.status_code, answer.content) == (200, b"")
