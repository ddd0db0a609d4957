"""Each answer of S3 as an error of ours: what can be tried again, what cannot, and what the message may say."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from dmedia_transfer.backends import s3_errors
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    CredentialsExpired,
    ObjectMissing,
    Permanent,
    ServerBusy,
    SizeDisputed,
    Stalled,
    Transient,
    UploadGone,
)


def client_error(code: str, status: int = 400, message: str = "", **headers: str) -> boto.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return boto.ClientError(response, "GetObject")


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("SlowDown", 503, ServerBusy),
        ("ServiceUnavailable", 503, ServerBusy),
        ("503", 503, ServerBusy),
        ("TooManyRequests", 429, ServerBusy),
        ("429", 429, ServerBusy),
        ("InternalError", 500, Transient),
        ("InternalError", 200, Transient),
        ("502", 502, Transient),
        ("504", 504, Transient),
        ("OperationAborted", 409, Transient),
        ("InvalidPart", 400, Transient),
        ("RequestTimeout", 400, Stalled),
        ("RequestTimeTooSkewed", 403, Transient),
        ("ExpiredToken", 400, CredentialsExpired),
        ("InvalidToken", 400, CredentialsExpired),
        ("RequestExpired", 400, CredentialsExpired),
        ("AccessDenied", 403, AccessDenied),
        ("InvalidAccessKeyId", 403, AccessDenied),
        ("SignatureDoesNotMatch", 403, AccessDenied),
        ("401", 401, AccessDenied),
        ("403", 403, AccessDenied),
        ("NoSuchBucket", 404, Permanent),
        ("NoSuchKey", 404, ObjectMissing),
        ("404", 404, ObjectMissing),
        ("InvalidRange", 416, SizeDisputed),
        ("416", 416, SizeDisputed),
        ("NotImplemented", 501, Permanent),
        ("EntityTooSmall", 400, Permanent),
        ("InvalidObjectState", 403, AccessDenied),
        ("PermanentRedirect", 301, Permanent),
        ("400", 400, Permanent),
    ],
)
def test_each_code_has_its_error(code: str, status: int, expected: type[Exception]) -> None:
    assert type(s3_errors.translate(client_error(code, status), "reading x")) is expected


@pytest.mark.parametrize("code", ["NoSuchUpload", "NoSuchKey", "404"])
def test_what_is_missing_of_an_upload_is_the_upload(code: str) -> None:
    assert type(s3_errors.translate(client_error(code, 404), "listing x", upload=True)) is UploadGone


@pytest.mark.parametrize("code", ["BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"])
def test_bytes_that_do_not_match_their_checksum_were_damaged(code: str) -> None:
    assert isinstance(s3_errors.translate(client_error(code), "sending x"), s3_errors.Damaged)


def test_a_bare_400_is_an_expired_token_only_where_there_is_a_token() -> None:
    error = client_error("400", 400)
    assert type(s3_errors.translate(error, "x", temporary=True)) is CredentialsExpired
    assert type(s3_errors.translate(error, "x", temporary=False)) is Permanent


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("999999", 3600.0),
        ("soon", None),
        ("-3", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 3600.0),
    ],
)
def test_retry_after_is_read_and_bounded(said: str, expected: float | None) -> None:
    error = s3_errors.translate(client_error("SlowDown", 503, **{"retry-after": said}), "x")
    assert isinstance(error, ServerBusy)
    assert error.retry_after_s == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (boto.NoCredentialsError(), AccessDenied),
        (boto.ProfileNotFound(profile="films"), AccessDenied),
        (boto.SSOTokenLoadError(error_msg="expired"), CredentialsExpired),
        (boto.UnauthorizedSSOTokenError(), CredentialsExpired),
        (boto.CredentialRetrievalError(provider="x", error_msg="y"), CredentialsExpired),
        (boto.ReadTimeoutError(endpoint_url="http://x/?Signature=1"), Stalled),
        (boto.ConnectTimeoutError(endpoint_url="http://x/?Signature=1"), ConnectionLost),
        (boto.EndpointConnectionError(endpoint_url="http://x/?Signature=1"), ConnectionLost),
        (boto.ProxyConnectionError(proxy_url="http://user:secret@x"), ConnectionLost),
        (boto.ConnectionClosedError(endpoint_url="http://x/?Signature=1"), ConnectionLost),
        (boto.SSLError(endpoint_url="http://x/?Signature=1", error=OSError()), ConnectionLost),
        (boto.HTTPClientError(error="http://x/?Signature=1"), ConnectionLost),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), ConnectionLost),
        (ResponseParserError("not XML"), ConnectionLost),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_boto3_itself_raises_has_its_error_and_shows_no_url(error: Exception, expected: type[Exception]) -> None:
    ours = s3_errors.translate(error, "reading films/x")
    assert type(ours) is expected
    assert str(ours).startswith("reading films/x: ")
    assert "Signature" not in str(ours)
    assert "secret" not in str(ours)


def test_a_message_says_what_was_done_and_what_the_server_said() -> None:
    error = s3_errors.translate(client_error("AccessDenied", 403, "No way, Jos\u00e9. " + "x" * 500), "reading films/x")
    assert str(error).startswith("reading films/x: No way, Jos\u00e9.")
    assert str(error).endswith("(AccessDenied)")
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (client_error("NotImplemented", 501, "Header 'x-amz-checksum-algorithm' is not implemented"), True),
        (client_error("InvalidRequest", 400, "Unsupported header 'x-amz-checksum-sha256'"), True),
        (client_error("NotImplemented", 501, "a part cannot be replaced"), False),
        (client_error("BadDigest", 400, "the checksum does not match"), False),
        (client_error("InternalError", 500, "checksum service is down"), False),
        (boto.NoCredentialsError(), False),
    ],
)
def test_a_refusal_of_checksums_is_told_from_others(error: Exception, expected: bool) -> None:
    assert s3_errors.without_checksums(error) is expected
