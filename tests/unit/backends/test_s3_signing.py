"""Signatures of our own are those of botocore, whatever is signed."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.backends.s3_signing import EMPTY, Key, Signed, Signer, canonical_path, canonical_query

KEY = Key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)


def by_botocore(
    key: Key, path: str, query: str, headers: dict[str, str], region: str = "eu-central-1"
) -> dict[str, str]:
    """The headers of a GET that botocore has signed, by lower-case name."""
    url = f"http://example.org:9000{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method="GET", url=url, headers=headers)
    request.context["payload_signing_enabled"] = True
    credentials = Credentials(key.access_key, key.secret_key, key.token or None)
    S3SigV4Auth(credentials, "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()} | {"host": "example.org:9000"}


@given(name=TEXT, upload_id=TEXT, number=st.integers(1, 10_000), token=st.sampled_from(["", "a token/+="]))
def test_ours_is_what_botocore_comes_to(name: str, upload_id: str, number: int, token: str) -> None:
    key = KEY._replace(token=token)
    path = "/films/" + canonical_path(name)
    query = canonical_query([("uploadId", upload_id), ("partNumber", str(number))])
    theirs = by_botocore(key, path, query, {"Range": "bytes=0-9"})
    signed = Signed.read(theirs["authorization"])
    assert signed is not None
    signer = Signer("eu-central-1")
    assert signer.agrees(key, "GET", path, query, theirs, signed)
    chosen = {header: theirs[header] for header in signed.names}
    ours = Signed.read(signer.authorization(key, "GET", path, query, chosen, time=theirs["x-amz-date"]))
    assert ours == signed


@pytest.mark.parametrize(
    ("key", "region", "path"),
    [
        (KEY._replace(secret_key="another"), "eu-central-1", "/films/A"),
        (KEY, "us-east-1", "/films/A"),
        (KEY, "eu-central-1", "/films/B"),
    ],
    ids=["another secret", "another region", "another object"],
)
def test_a_signature_that_is_made_of_something_else_does_not_agree(key: Key, region: str, path: str) -> None:
    theirs = by_botocore(KEY, "/films/A", "", {})
    signed = Signed.read(theirs["authorization"])
    assert signed is not None
    assert not Signer(region).agrees(key, "GET", path, "", theirs, signed)


def test_a_request_without_a_header_that_was_signed_does_not_agree() -> None:
    theirs = by_botocore(KEY, "/films/A", "", {"Range": "bytes=0-9"})
    signed = Signed.read(theirs.pop("authorization"))
    assert signed is not None
    del theirs["range"]
    assert not Signer("eu-central-1").agrees(KEY, "GET", "/films/A", "", theirs, signed)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "AWS AKID:signature",
        "Bearer token",
        "AWS4-ECDSA-P256-SHA256 Credential=A/20260101/s3/aws4_request, SignedHeaders=host, Signature=00",
    ],
)
def test_signatures_of_other_kinds_are_not_taken_for_ours(authorization: str) -> None:
    assert Signed.read(authorization) is None


def test_the_key_of_a_new_day_is_another() -> None:
    signer, headers = Signer("eu-central-1"), {"host": "example.org", "x-amz-content-sha256": EMPTY}
    made = {
        signer.authorization(KEY, "GET", "/films/A", "", headers, time=time)[-64:]
        for time in ("20260101T000000Z", "20260102T000000Z", "20260101T000000Z")
    }
    assert len(made) == 2


def test_a_key_shows_nothing_of_itself() -> None:
    assert KEY.secret_key not in repr(KEY)


def test_keys_of_objects_are_quoted_as_botocore_does() -> None:
    assert canonical_path("a b/ü~+&=.mkv") == quote("a b/ü~+&=.mkv", safe="/-_.~")
