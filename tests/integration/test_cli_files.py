"""`import`, `path` and `drop`, with a real FileStore and a real database."""

from __future__ import annotations

import json
import mimetypes
from pathlib import Path

import pytest

from dmedia_transfer import documents
from tests.cli import Terminal
from tests.s3 import S3Server


def imported(terminal: Terminal, name: str = "film.mkv", content: bytes = b"film") -> str:
    """The ID of a file that was just imported."""
    (line,) = terminal.lines("import", terminal.file(name, content))
    return str(line["file_id"])


def test_a_file_is_imported_and_its_copy_is_no_hard_link(stocked: Terminal) -> None:
    path = stocked.file("Film.mkv")
    (line,) = stocked.lines("import", path)
    assert (line["path"], line["outcome"], line["bytes"], line["reason"]) == (path, "imported", 4, None)
    copy = Path(stocked.run("path", "Film.mkv").rstrip("\n"))
    assert copy.read_bytes() == b"film"
    assert copy.stat().st_nlink == 1
    assert not copy.samefile(path)
    file = documents.read_file(stocked.document(line["file_id"]))
    assert (file.name, file.ext, file.mime, file.origin) == (
        "Film.mkv",
        "mkv",
        mimetypes.guess_type("film.mkv")[0],
        "user",
    )
    with stocked.database() as database:
        raw = database.get_with_leaves([file.id])[file.id]
    assert isinstance(raw, dict)
    assert documents.file_spec(file, documents.inline_leaves(raw)).size == 4


def test_a_folder_is_imported_and_one_that_fails_does_not_stop_the_others(stocked: Terminal) -> None:
    stocked.file("in/a", b"a")
    stocked.file("in/sub/b", b"b")
    stocked.file("in/empty", b"")
    err = stocked.run("import", "in", "missing", code=1)
    assert "missing cannot be imported: No such file or directory" in err
    assert err.splitlines()[-1] == "dmedia-transfer: 1 file could not be imported"
    lines = stocked.lines("import", "in")
    assert [(Path(line["path"]).name, line["outcome"]) for line in lines] == [
        ("a", "known"),
        ("empty", "skipped"),
        ("b", "known"),
    ]


def test_people_see_the_id_and_the_path(stocked: Terminal) -> None:
    path = stocked.file("film.mkv")
    out = stocked.run("import", path)
    file_id = stocked.json("path", "film.mkv")["file_id"]
    assert out == f"{file_id}  {path}\n"
    assert stocked.run("import", path) == f"{file_id}  {path}  (was in the library)\n"


def test_the_filestore_can_be_named(stocked: Terminal) -> None:
    stocked.run("stores", "add-filestore", "attic", "--name", "attic")
    (line,) = stocked.lines("import", stocked.file("film.mkv"), "--store", "attic")
    stored = stocked.document(line["file_id"])["stored"]
    attic = next(row["store_id"] for row in stocked.json("stores") if row["name"] == "attic")
    assert list(stored) == [attic]
    assert "/attic/" in stocked.run("path", "film.mkv")


def test_an_import_without_a_filestore_says_what_to_do(terminal: Terminal) -> None:
    err = terminal.run("import", terminal.file("film.mkv"), code=1)
    assert "no FileStore; `dmedia-transfer stores add-filestore FOLDER` makes one" in err


def test_an_import_without_a_database_fails_once_and_leaves_nothing(stocked: Terminal) -> None:
    files = [stocked.file(f"in/{name}", name.encode()) for name in "abc"]
    stocked.set(couchdb="http://127.0.0.1:9")
    said = stocked.run("import", *files, code=1)
    assert said.count("127.0.0.1:9") == 1
    assert not [path for path in stocked.home.rglob("files/*/*") if path.is_file()]


def test_an_import_into_something_else_is_refused(stocked: Terminal) -> None:
    assert "there is no store 'nowhere'" in stocked.run("import", stocked.file("a"), "--store", "nowhere", code=1)
    assert "has no FileStore " + "A" * 24 in stocked.run("import", stocked.file("a"), "-s", "A" * 24, code=1)


def test_a_drive_that_is_gone_is_named(stocked: Terminal) -> None:
    (stocked.home / "shelf").rename(stocked.home / "away")
    assert str(stocked.home / "shelf") in stocked.run("import", stocked.file("film.mkv"), code=1)


@pytest.mark.parametrize("cut", [4, 20, 48])
def test_a_file_is_named_by_the_beginning_of_its_id(stocked: Terminal, cut: int) -> None:
    file_id = imported(stocked)
    assert stocked.json("path", file_id[:cut].lower())["file_id"] == file_id


def test_a_name_that_several_files_have_is_refused_with_a_list(stocked: Terminal) -> None:
    one, other = imported(stocked, "a/film.mkv", b"1"), imported(stocked, "b/film.mkv", b"2")
    err = stocked.run("path", "film.mkv", code=1)
    assert "'film.mkv' could be 2 files: " in err
    assert one[:16] in err
    assert other[:16] in err


def test_a_file_that_is_not_known_is_named(stocked: Terminal) -> None:
    assert "there is no file 'film.mkv'" in stocked.run("path", "film.mkv", code=1)


def test_a_file_that_is_elsewhere_says_how_to_get_it(stocked: Terminal) -> None:
    err = stocked.run("path", "A" * 48, code=1)
    assert "file AAAAAAAAAAAA is not on this machine; `dmedia-transfer download AAAAAAAAAAAA` brings it here" in err


def test_the_last_copy_is_kept_unless_it_is_forced(stocked: Terminal) -> None:
    file_id = imported(stocked)
    assert "film.mkv is kept: no other copy of it is known" in stocked.run("drop", "film.mkv", code=1)
    assert stocked.run("path", "film.mkv")
    stocked.run("drop", "film.mkv", "--force")
    stocked.run("path", "film.mkv", code=1)
    (line,) = stocked.document(file_id)["stored"].values()
    assert line["copies"] == 0


def test_a_copy_goes_while_another_stays(stocked: Terminal) -> None:
    stocked.run("stores", "add-filestore", "attic", "--name", "attic")
    path = stocked.file("film.mkv")
    stocked.run("import", path, "--store", "attic")
    stocked.run("import", path, "--store", "shelf")
    dropped = stocked.json("drop", "film.mkv", "shelf")
    stored = stocked.document(dropped["file_id"])["stored"]
    assert {store: line["copies"] for store, line in stored.items()}[dropped["removed_from"][0]] == 0
    assert sorted(line["copies"] for line in stored.values()) == [0, 1]
    assert "/attic/" in stocked.run("path", "film.mkv")
    assert "is kept" in stocked.run("drop", "film.mkv", code=1)


def test_a_copy_that_is_only_said_to_be_there_does_not_count(stocked: Terminal) -> None:
    stocked.run("stores", "add-filestore", "attic", "--name", "attic")
    path = stocked.file("film.mkv")
    stocked.run("import", path, "--store", "attic")
    Path(stocked.run("path", "film.mkv").rstrip("\n")).unlink()
    stocked.run("import", path, "--store", "shelf")
    assert "is kept" in stocked.run("drop", "film.mkv", "shelf", code=1)


def test_a_file_that_is_not_here_cannot_be_dropped_here(stocked: Terminal) -> None:
    imported(stocked)
    stocked.run("drop", "film.mkv", "--force")
    assert "film.mkv is not on this machine" in stocked.run("drop", "film.mkv", code=1)


def test_an_object_is_dropped_from_its_bucket(stocked: Terminal, rclone_s3: S3Server) -> None:
    stocked.monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone_s3.access_key)
    stocked.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rclone_s3.secret_key)
    prefix = "drop/"
    store = stocked.json("stores", "add-s3", rclone_s3.bucket, "--endpoint", rclone_s3.url, "--prefix", prefix)
    file_id = imported(stocked)
    key = f"{prefix}{file_id}"
    client = rclone_s3.client()
    client.put_object(Bucket=rclone_s3.bucket, Key=key, Body=b"film")
    with stocked.database() as database:
        raw = stocked.document(file_id)
        database.put({**raw, "stored": {**raw["stored"], store["store_id"]: {"copies": 1, "time": 1.0}}})
    stocked.run("drop", "film.mkv", store["name"])
    assert stocked.document(file_id)["stored"][store["store_id"]]["copies"] == 0
    assert "Contents" not in client.list_objects_v2(Bucket=rclone_s3.bucket, Prefix=prefix)
    assert stocked.run("path", "film.mkv")


def test_a_copy_that_cannot_be_removed_stays_in_the_documents(stocked: Terminal, rclone_s3: S3Server) -> None:
    stocked.monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone_s3.access_key)
    stocked.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    arguments = ["stores", "add-s3", rclone_s3.bucket, "--endpoint", rclone_s3.url, "--no-check"]
    store = stocked.json(*arguments)["store_id"]
    file_id = imported(stocked)
    with stocked.database() as database:
        raw = stocked.document(file_id)
        database.put({**raw, "stored": {**raw["stored"], store: {"copies": 1, "time": 1.0}}})
    stocked.run("drop", "film.mkv", store, code=1)
    assert stocked.document(file_id)["stored"][store]["copies"] == 1


def test_hostile_names_are_shown_harmlessly(stocked: Terminal) -> None:
    name = "a\x1b[31m\n.mkv"
    out = stocked.run("import", stocked.file(name))
    assert "\x1b" not in out
    assert len(out.splitlines()) == 1
    assert json.loads(stocked.run("import", name, "--json"))["outcome"] == "known"
