from __future__ import annotations

import base64
import hashlib

import pytest

from dmedia_transfer.errors import InvalidInput
from dmedia_transfer.peers.server.wish import Wish, read_wish
from dmedia_transfer.serving import tuswords
from tests.factories import STORE_ID

FILE_ID = "A" * 48


def b64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def wish(metadata: str, length: str = "5") -> Wish:
    return read_wish({"Upload-Length": length, "Upload-Metadata": metadata})


def test_a_wish_names_file_and_store() -> None:
    read = wish(f"filename {b64('x')},file_id {b64(FILE_ID)} , store_id {b64(STORE_ID)},empty")
    assert (read.file_id, read.size, read.store_id) == (FILE_ID, 5, STORE_ID)
    assert wish(f"file_id {b64(FILE_ID)}").store_id == ""


@pytest.mark.parametrize(
    "metadata",
    ["", "file_id", "file_id !!", f"file_id {b64('../../etc/passwd')}", f"file_id {b64(FILE_ID.lower())}",
     f"file_id {b64(FILE_ID)},file_id {b64(FILE_ID)}", f"file_id {b64(FILE_ID)},store_id {b64('../x')}",
     "file_id " + b64(b"\xff" * 48)],
)  # fmt: skip
def test_metadata_that_names_no_file_is_refused(metadata: str) -> None:
    with pytest.raises(InvalidInput, match="Upload-Metadata"):
        wish(metadata)


@pytest.mark.parametrize("length", ["-1", "", "+5", "5.0", "1e3", "0x5", "٥", " 5", "9" * 17])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises(InvalidInput, match="Upload-Length"):
        wish(f"file_id {b64(FILE_ID)}", length)


def test_a_length_that_comes_later_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Upload-Defer-Length"):
        read_wish({"Upload-Defer-Length": "1"})


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_checksum_is_read(algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"x").digest()
    read = tuswords.read_checksum({"Upload-Checksum": f"{algorithm} {b64(digest)}"})
    assert read is not None
    hashing = read.begin()
    hashing.update(b"x")
    assert hashing.digest() == read.digest
    assert tuswords.read_checksum({}) is None


@pytest.mark.parametrize("text", ["", "sha1", "sha1 !", "crc32 AAAA", f"sha1 {b64(b'short')}", "sha1,AAAA"])
def test_a_checksum_that_cannot_be_understood_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="Upload-Checksum"):
        tuswords.read_checksum({"Upload-Checksum": text})
