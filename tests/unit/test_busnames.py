from __future__ import annotations

import pytest

from dmedia_transfer import busnames, errors
from dmedia_transfer.model import Direction, TransferKey
from tests.factories import STORE_ID

FILE_ID = "F" * 48
KEYS = [TransferKey(Direction.DOWNLOAD, FILE_ID, ""), TransferKey(Direction.UPLOAD, FILE_ID, STORE_ID)]


@pytest.mark.parametrize("key", KEYS)
def test_a_path_leads_back_to_its_transfer(key: TransferKey) -> None:
    assert busnames.key_of(busnames.path_of(key)) == key


@pytest.mark.parametrize(
    "path",
    [
        "/",
        busnames.ROOT,
        f"{busnames.ROOT}/downloads",
        f"{busnames.ROOT}/downloads/{FILE_ID[:-1]}",
        f"{busnames.ROOT}/downloads/{FILE_ID}/{STORE_ID}",
        f"{busnames.ROOT}/uploads/{FILE_ID}",
        f"{busnames.ROOT}/uploads/{FILE_ID}/{STORE_ID}/x",
        f"{busnames.ROOT}/others/{FILE_ID}",
        f"/x{busnames.ROOT}/downloads/{FILE_ID}",
    ],
)
def test_other_paths_lead_to_no_transfer(path: str) -> None:
    assert busnames.key_of(path) is None


@pytest.mark.parametrize(
    "error",
    [
        errors.TransferError("x"),
        errors.InvalidRequest("x"),
        errors.Unknown("x"),
        errors.ServerBusy("x", retry_after_s=3),
        errors.DiskFull("x"),
        errors.Conflict("x"),
    ],
)
def test_an_error_comes_back_as_what_it_was(error: errors.TransferError) -> None:
    back = busnames.error_of(busnames.error_name(error), str(error))
    assert type(back) is type(error)
    assert str(back) == "x"


def test_an_error_made_of_facts_comes_back_as_its_sentence() -> None:
    error = errors.InvalidDocument("doc", "key", "is bad")
    back = busnames.error_of(busnames.error_name(error), str(error))
    assert type(back) is errors.InvalidInput
    assert str(back) == str(error)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("org.dmedia.Transfer1.Error.FromTheFuture", errors.TransferError),
        ("org.dmedia.Transfer1.Error.Internal", errors.TransferError),
        ("com.example.Other", errors.TransferError),
        ("org.freedesktop.DBus.Error.InvalidArgs", errors.InvalidRequest),
        ("org.freedesktop.DBus.Error.UnknownObject", errors.Unknown),
        ("org.freedesktop.DBus.Error.ServiceUnknown", errors.ConnectionLost),
        ("org.freedesktop.DBus.Error.Spawn.ExecFailed", errors.ConnectionLost),
    ],
)
def test_errors_of_others_have_a_kind_too(name: str, kind: type[errors.TransferError]) -> None:
    assert type(busnames.error_of(name, "x")) is kind
