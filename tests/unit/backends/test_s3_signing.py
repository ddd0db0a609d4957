"""Requests of our own are signed as boto3 signs its own."""

from __future__ import annotations

import datetime
from urllib.parse import quote

import pytest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.backends.s3_signing import EMPTY, UNSIGNED, Signature, quoted, signed

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").get_frozen_credentials()
GUEST = Credentials("AKIDGUEST", "secret", "a token/+=").get_frozen_credentials()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)


@given(name=TEXT, upload_id=TEXT)
def test_a_signature_says_who_and_where_whatever_is_signed(name: str, upload_id: str) -> None:
    url = f"http://example.org:9000/films/{quoted(name, path=True)}?uploadId={quoted(upload_id)}"
    headers = signed(KEYS, "eu-central-1", "PUT", url, {"range": "bytes=0-9"}, content=UNSIGNED)
    assert Signature.read(headers["Authorization"]) == ("AKIDEXAMPLE", "eu-central-1")
    assert "host;range;x-amz-content-sha256;x-amz-date" in headers["Authorization"]
    assert headers["X-Amz-Content-SHA256"] == UNSIGNED
    assert headers["range"] == "bytes=0-9"


def test_the_token_of_temporary_credentials_is_sent_and_signed() -> None:
    headers = signed(GUEST, "eu-central-1", "GET", "http://example.org/films/A", {}, content=EMPTY)
    assert headers["X-Amz-Security-Token"] == "a token/+="
    assert "x-amz-security-token" in headers["Authorization"]


@pytest.mark.parametrize(
    ("url", "content"),
    [
        ("http://example.org/films/B?partNumber=1", EMPTY),
        ("http://example.org/films/A?partNumber=2", EMPTY),
        ("http://example.net/films/A?partNumber=1", EMPTY),
        ("http://example.org/films/A?partNumber=1", UNSIGNED),
    ],
    ids=["another object", "another part", "another host", "another body"],
)
def test_a_signature_holds_for_nothing_else(monkeypatch: pytest.MonkeyPatch, url: str, content: str) -> None:
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    one = signed(KEYS, "eu-central-1", "PUT", "http://example.org/films/A?partNumber=1", {}, content=EMPTY)
    assert one == signed(KEYS, "eu-central-1", "PUT", "http://example.org/films/A?partNumber=1", {}, content=EMPTY)
    assert one["Authorization"] != signed(KEYS, "eu-central-1", "PUT", url, {}, content=content)["Authorization"]


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
