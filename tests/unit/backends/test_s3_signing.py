"""Requests of our own are signed as boto3 signs its own."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.backends.s3_signing import EMPTY, UNSIGNED, Signature, quoted, signed

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").get_frozen_credentials()
GUEST = Credentials("AKIDGUEST", "secret", "a token/+=").get_frozen_credentials()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
PARAMETERS = st.dictionaries(st.sampled_from(["uploadId", "partNumber", "a", "A", "a.b"]), TEXT)
HEADERS = {
    "range": "bytes=0-9",
    "content-length": "17",
    "content-type": "video/x-matroska",
    "x-amz-checksum-sha256": "RPg1RJSlugO6F5Ko0+nFNMR6kYGYD956P0SwbvKufH8=",
    "x-amz-checksum-mode": "ENABLED",
}


class BotocoreSigner(S3SigV4Auth):
    """Does not read the body."""

    content = ""

    def payload(self, request: AWSRequest) -> str:
        return self.content


def signed_by_botocore(
    credentials: Any, method: str, url: str, headers: Mapping[str, str], content: str, unix_s: float
) -> dict[str, str]:
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    signer = BotocoreSigner(credentials, "s3", "eu-central-1")
    signer.content = content
    moment = datetime.datetime.fromtimestamp(unix_s, tz=datetime.UTC)
    with patch("botocore.auth.get_current_datetime", lambda: moment):
        signer.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


@given(
    key=TEXT,
    parameters=PARAMETERS,
    names=st.sets(st.sampled_from(sorted(HEADERS))),
    guest=st.booleans(),
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    host=st.sampled_from(["example.org", "127.0.0.1:9000", "[::1]:9000"]),
    content=st.sampled_from([EMPTY, UNSIGNED, "ab" * 32]),
    unix_s=st.integers(0, 4_000_000_000),
)
def test_whatever_is_asked_is_signed_as_botocore_signs_it(
    key: str,
    parameters: dict[str, str],
    names: set[str],
    guest: bool,
    method: str,
    host: str,
    content: str,
    unix_s: int,
) -> None:
    credentials = GUEST if guest else KEYS
    headers = {name: HEADERS[name] for name in names}
    query = "&".join(f"{name}={quoted(value)}" for name, value in parameters.items())
    target = f"/films/{quoted(key, path=True)}" + (f"?{query}" if query else "")
    ours = signed(credentials, "eu-central-1", method, host, target, headers, content=content, unix_s=unix_s)
    theirs = signed_by_botocore(credentials, method, f"http://{host}{target}", headers, content, unix_s)
    assert ours == {"host": host, **theirs}
    assert Signature.read(ours["authorization"]) == (credentials.access_key, "eu-central-1")


def test_a_request_is_signed_for_now() -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    said = signed(KEYS, "eu-central-1", "GET", "example.org", "/films/A", {}, content=EMPTY)["x-amz-date"]
    moment = datetime.datetime.strptime(said, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    assert before <= moment <= datetime.datetime.now(datetime.UTC)


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
    assert Signature.read(authorization) is None


def test_keys_of_objects_are_quoted_as_botocore_does() -> None:
    assert quoted("a b/ü~+&=.mkv", path=True) == quote("a b/ü~+&=.mkv", safe="/-_.~")
