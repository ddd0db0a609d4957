"""`stores`: FileStores and buckets, added, enabled, removed, swept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import documents
from dmedia_transfer.model import random_id
from tests.cli import Terminal
from tests.s3 import S3Server


@pytest.fixture(params=["rclone_s3", "moto_s3"])
def s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server whose credentials are in the environment."""
    return with_credentials(request.getfixturevalue(request.param), monkeypatch)


def with_credentials(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    return server


def from_elsewhere(terminal: Terminal, **settings: Any) -> str:
    """A store that another device added; returns its ID."""
    raw = documents.new_store(random_id(), time=1.0, **{"plugin": "s3", "bucket": "films", **settings})
    with terminal.database() as database:
        database.put(raw)
    return str(raw["_id"])


def test_a_new_machine_has_none_and_says_how_to_make_one(terminal: Terminal) -> None:
    assert terminal.json("stores") == []
    assert terminal.run("stores") == ""  # in a pipe


def test_a_folder_becomes_a_filestore(terminal: Terminal) -> None:
    added = terminal.json("stores", "add-filestore", "shelf")
    assert added["where"] == str(terminal.home / "shelf")
    raw = terminal.document(added["store_id"])
    assert (raw["plugin"], raw["name"], raw["machine_id"]) == ("filestore", "tv", terminal.machine_id)
    (row,) = terminal.json("stores")
    assert (row["usable"], row["where"]) == (True, str(terminal.home / "shelf"))
    assert row["free_bytes"] > 0
    marker = json.loads((terminal.home / "shelf" / "filestore.json").read_text())
    assert marker["store_id"] == added["store_id"]


def test_a_second_one_gets_a_name_of_its_own(terminal: Terminal) -> None:
    names = [terminal.json("stores", "add-filestore", folder)["name"] for folder in ("a", "b", "c")]
    assert names == ["tv", "tv-2", "tv-3"]


def test_a_filestore_that_was_brought_along_keeps_its_id(terminal: Terminal) -> None:
    first = terminal.json("stores", "add-filestore", "shelf", "--name", "shelf")
    (terminal.home / "shelf").rename(terminal.home / "moved")
    again = terminal.json("stores", "add-filestore", "moved")
    assert again["store_id"] == first["store_id"]
    (row,) = terminal.json("stores")
    assert (row["name"], row["where"], row["usable"]) == ("shelf", str(terminal.home / "moved"), True)


def test_adding_a_filestore_twice_changes_nothing(terminal: Terminal) -> None:
    first = terminal.json("stores", "add-filestore", "shelf")
    before = terminal.document(first["store_id"])
    assert terminal.json("stores", "add-filestore", "shelf") == first
    assert terminal.document(first["store_id"]) == before


def test_a_file_is_no_folder(terminal: Terminal) -> None:
    path = terminal.file("x")
    terminal.run("stores", "add-filestore", path, code=2)


def test_a_bucket_is_tried_and_then_enabled(terminal: Terminal, s3: S3Server) -> None:
    out = terminal.run("stores", "add-s3", s3.bucket, "--endpoint", s3.url, "--prefix", "tried/", "--cost", "5")
    assert f"bucket {s3.bucket} can be reached and written" in out
    (row,) = terminal.json("stores")
    assert (row["usable"], row["plugin"], row["name"]) == (True, "s3", s3.bucket)
    raw = terminal.document(row["store_id"])
    assert (raw["bucket"], raw["endpoint_url"], raw["prefix"], raw["cost"]) == (s3.bucket, s3.url, "tried/", 5)
    assert documents.read_s3_settings(raw).use_ext is False
    assert s3.secret_key not in json.dumps(raw)
    assert s3.access_key not in json.dumps(raw)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"AWS_SECRET_ACCESS_KEY": "wrong"}, "refuse"), ({"bucket": "no-such-bucket"}, "no-such-bucket")],
)
def test_a_bucket_that_cannot_be_used_is_not_added(
    terminal: Terminal, rclone_s3: S3Server, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], said: str
) -> None:
    with_credentials(rclone_s3, monkeypatch)
    for name in change.keys() - {"bucket"}:
        monkeypatch.setenv(name, change[name])
    bucket = change.get("bucket", rclone_s3.bucket)
    assert said in terminal.run("stores", "add-s3", bucket, "--endpoint", rclone_s3.url, code=1)
    assert terminal.json("stores") == []
    assert json.loads((terminal.home / "state" / "stores.json").read_text())["enabled"] == {}


def test_a_bucket_is_added_untried_if_somebody_insists(terminal: Terminal) -> None:
    terminal.run("stores", "add-s3", "films", "--endpoint", "https://s3.invalid", "--no-check", "-n", "nas")
    (row,) = terminal.json("stores")
    assert (row["name"], row["where"], row["usable"]) == ("nas", "films/ at https://s3.invalid", True)


def test_a_bucket_without_tls_is_refused_unless_its_host_is_allowed(terminal: Terminal) -> None:
    arguments = ["stores", "add-s3", "films", "--endpoint", "http://nas.invalid", "--no-check"]
    assert "would be reached without TLS" in terminal.run(*arguments, code=1)
    assert terminal.json("stores") == []
    terminal.set(allowed_http_hosts="nas.invalid")
    terminal.run(*arguments)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["../x"], "bucket"),
        (["films", "--endpoint", "ftp://x"], "endpoint_url"),
        (["films", "--prefix", "../"], "prefix"),
    ],
)
def test_a_setting_that_cannot_be_is_named(terminal: Terminal, arguments: list[str], key: str) -> None:
    assert f"'{key}'" in terminal.run("stores", "add-s3", *arguments, "--no-check", code=1)
    assert terminal.json("stores") == []


def test_a_bucket_that_is_there_already_is_not_added_twice(terminal: Terminal) -> None:
    terminal.run("stores", "add-s3", "films", "--no-check")
    assert "is this bucket and prefix already" in terminal.run("stores", "add-s3", "films", "--no-check", code=2)
    terminal.run("stores", "add-s3", "films", "--prefix", "other/", "--no-check")


def test_a_store_from_elsewhere_is_used_after_it_was_enabled(terminal: Terminal) -> None:
    store_id = from_elsewhere(terminal, name="nas", endpoint_url="https://nas.invalid")
    (row,) = terminal.json("stores")
    assert not row["usable"]
    assert f"`dmedia-transfer stores enable {store_id}` allows it" in row["problem"]
    assert terminal.json("stores", "enable", "nas") == {"store_id": store_id, "enabled": True}
    assert terminal.json("stores")[0]["usable"]
    assert terminal.json("stores", "disable", store_id[:6])["changed"] is True
    assert terminal.json("stores", "disable", store_id[:6])["changed"] is False
    assert not terminal.json("stores")[0]["usable"]


def test_a_store_that_moved_has_to_be_enabled_again(terminal: Terminal) -> None:
    store_id = from_elsewhere(terminal, name="nas", endpoint_url="https://nas.invalid")
    terminal.run("stores", "enable", "nas")
    with terminal.database() as database:
        database.put({**terminal.document(store_id), "endpoint_url": "https://evil.invalid"})
    (row,) = terminal.json("stores")
    assert "endpoint_url from 'https://nas.invalid' to 'https://evil.invalid'" in row["problem"]
    terminal.run("stores", "enable", "nas")
    assert terminal.json("stores")[0]["usable"]


def test_a_filestore_of_another_machine_is_listed_and_cannot_be_enabled(terminal: Terminal) -> None:
    from_elsewhere(terminal, plugin="filestore", name="theirs", machine_id="M" * 24)
    (row,) = terminal.json("stores")
    assert "is a FileStore of another machine" in row["problem"]
    assert "brought along" in terminal.run("stores", "enable", "theirs", code=2)


def test_a_store_without_files_is_removed_for_all(terminal: Terminal) -> None:
    store_id = from_elsewhere(terminal, name="nas")
    terminal.run("stores", "enable", "nas")
    terminal.run("stores", "remove", "nas")
    assert terminal.json("stores") == []
    with terminal.database() as database:
        assert database.get(store_id) is None


def test_a_store_that_the_library_counts_on_is_kept_unless_it_is_forced(stocked: Terminal) -> None:
    stocked.run("import", stocked.file("film.mkv"))
    assert "is kept: the library counts on files in it" in stocked.run("stores", "remove", "shelf", code=1)
    stocked.run("stores", "remove", "shelf", "--force")
    assert stocked.json("stores") == []
    assert list((stocked.home / "shelf" / "files").iterdir())


def test_a_bad_document_disturbs_no_other(stocked: Terminal) -> None:
    from_elsewhere(stocked, name="bad", bucket="../x")
    rows = {row["name"]: row for row in stocked.json("stores")}
    assert rows["shelf"]["usable"]
    assert not rows["bad"]["usable"]
    assert "bad" in stocked.run("stores")


def test_an_ambiguous_name_is_refused_with_a_list(terminal: Terminal) -> None:
    one, other = from_elsewhere(terminal, name="nas"), from_elsewhere(terminal, name="nas", prefix="x/")
    err = terminal.run("stores", "enable", "nas", code=1)
    assert "could be 2 stores" in err
    assert one[:16] in err
    assert other[:16] in err


def test_unfinished_uploads_are_listed_and_aborted(
    terminal: Terminal, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_credentials(moto_s3, monkeypatch)
    terminal.run("stores", "add-s3", moto_s3.bucket, "--endpoint", moto_s3.url, "--prefix", "swept/", "-n", "nas")
    client = moto_s3.client()
    client.create_multipart_upload(Bucket=moto_s3.bucket, Key="swept/x")
    client.create_multipart_upload(Bucket=moto_s3.bucket, Key="kept/x")
    # moto says of all uploads that they were begun in 2010.
    assert terminal.json("stores", "sweep", "nas", "--older-than", "100000") == []
    (listed,) = terminal.json("stores", "sweep", "nas", "--older-than", "0", "--dry-run")
    assert (listed["object"], listed["aborted"]) == (f"{moto_s3.bucket}/swept/x", False)
    (swept,) = terminal.json("stores", "sweep", "nas", "--older-than", "0")
    assert swept["aborted"] is True
    assert terminal.run("stores", "sweep", "nas", "--older-than", "0") == "there is nothing to sweep\n"
    left = {upload["Key"] for upload in client.list_multipart_uploads(Bucket=moto_s3.bucket)["Uploads"]}
    assert "kept/x" in left  # it is not under the store's prefix
    assert "swept/x" not in left


def test_only_buckets_are_swept(stocked: Terminal) -> None:
    assert "is no S3 store" in stocked.run("stores", "sweep", "shelf", code=2)


def test_a_folder_of_another_store_is_not_taken(terminal: Terminal) -> None:
    root = Path(terminal.home, "shelf")
    root.mkdir()
    (root / "filestore.json").write_text("garbage")
    assert "already" in terminal.run("stores", "add-filestore", "shelf", code=2)
