"""What boto3 and S3 servers say, as our own errors: the border that no SDK exception crosses.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. Messages never contain signed URLs,
headers or keys of accounts.
"""

from __future__ import annotations

from typing import Any, Final

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from dmedia_transfer.backends import answers
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    CredentialsExpired,
    ObjectMissing,
    Permanent,
    ServerBusy,
    SizeDisputed,
    Stalled,
    TransferError,
    Transient,
    UploadGone,
)

_BUSY: Final = frozenset(
    {
        "SlowDown",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "RequestLimitExceeded",
        "RequestThrottled",
        "BandwidthLimitExceeded",
        "ReduceYourRate",
        "Busy",
        "503",
        "429",
    }
)
_EXPIRED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "RequestExpired", "TokenRefreshRequired"}
)
_REFUSED: Final = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AccountProblem",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidSecurity",
        "NotSignedUp",
        "InvalidPayer",
        "MissingSecurityHeader",
        "Forbidden",
        "Unauthorized",
        "401",
        "403",
    }
)
_TRANSIENT: Final = frozenset(
    {"InternalError", "InternalServerError", "OperationAborted", "BadGateway", "GatewayTimeout", "500", "502", "504"}
)
_GONE: Final = frozenset({"NoSuchUpload", "NoSuchKey", "404"})
_DAMAGED: Final = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "ChecksumMismatch"}
)
_ROTATED: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


class Damaged(Exception):
    """The server saw other bytes than we have a checksum of."""


def code_of(error: Exception) -> str:
    """The S3 error code, or the HTTP status where there is none; empty for what is no answer of a server."""
    if not isinstance(error, boto.ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", "")) or str(_status(error))


def maybe_rotated(error: Exception) -> bool:
    """Whether the answer is what one gets with a key that has been replaced."""
    return code_of(error) in _ROTATED


def without_checksums(error: Exception) -> bool:
    """Whether the server refuses a request because of its checksum headers (Backblaze 400, Cloudflare R2 501)."""
    if not isinstance(error, boto.ClientError) or _status(error) not in {400, 501}:
        return False
    return code_of(error) not in _DAMAGED and "checksum" in str(error).lower()


def translate(
    error: Exception, doing: str, *, upload: bool = False, temporary: bool = False
) -> TransferError | Damaged:
    """Our error for one of boto3's.

    Args:
        error: What boto3 raised.
        doing: What was being done to what; begins the message.
        upload: It was about a multipart upload: what is not found is the upload.
        temporary: The credentials are of the kind that expires.
    """
    if isinstance(error, boto.ClientError):
        return _of_answer(error, doing, upload=upload, temporary=temporary)
    match error:
        case boto.ReadTimeoutError():
            return Stalled(f"{doing}: no byte for too long")
        case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.ProfileNotFound():
            return AccessDenied(f"{doing}: no credentials for it are known on this machine ({error})")
        case (
            boto.CredentialRetrievalError()
            | boto.TokenRetrievalError()
            | boto.SSOError()
            | boto.MetadataRetrievalError()
        ):
            return CredentialsExpired(f"{doing}: the credentials could not be loaded, log in again ({error})")
        case boto.SSLError():
            return ConnectionLost(f"{doing}: no trusted TLS connection")
        case boto.HTTPClientError() | boto.ConnectionError() | boto.IncompleteReadError():
            # Not str(error): botocore puts the URL into it.
            return ConnectionLost(f"{doing}: the connection failed ({type(error).__name__})")
        case boto.NoRegionError():
            return Permanent(f"{doing}: the store needs a region")
        case ResponseParserError():
            return ConnectionLost(f"{doing}: the answer is not one of S3")
    return Permanent(f"{doing}: {type(error).__name__}: {error}")


def _of_answer(error: boto.ClientError, doing: str, *, upload: bool, temporary: bool) -> TransferError | Damaged:
    code, status = code_of(error), _status(error)
    said = f"{doing}: {_said(error, code)}"
    if code in _BUSY or status in {429, 503}:
        return ServerBusy(said, retry_after_s=_retry_after_s(error))
    if code in _DAMAGED:
        return Damaged(said)
    if code in _EXPIRED:
        return CredentialsExpired(said)
    if code == "RequestTimeTooSkewed":
        return Transient(f"{doing}: the clocks of this machine and of the store are too far apart")
    if code == "NoSuchBucket":
        return Permanent(f"{doing}: there is no such bucket")
    if upload and (code in _GONE or status == 404):
        return UploadGone(said)
    if code in _REFUSED or (status == 403 and code not in _TRANSIENT):
        return _refusal(code, doing, said)
    if code in _GONE or status == 404:
        return ObjectMissing(said)
    if code in {"InvalidRange", "416"} or status == 416:
        return SizeDisputed(f"{doing}: the object is shorter than the document says")
    if code == "RequestTimeout":
        return Stalled(said)
    if code == "InvalidPart":
        return Transient(said)  # the server does not have what we believe it has: its list of parts says more
    if code == "NotImplemented" or status == 501:
        return Permanent(said)
    if code in _TRANSIENT or status >= 500:
        return Transient(said, retry_after_s=_retry_after_s(error))
    if 300 <= status < 400:
        return Permanent(f"{doing}: the bucket is somewhere else ({code}), endpoint or region is wrong; not followed")
    if code == "400" and temporary:  # the answer to a HEAD has no body; a token that has expired looks like this
        return CredentialsExpired(f"{doing}: refused (400), as with credentials that have expired")
    return Permanent(said)


def _refusal(code: str, doing: str, said: str) -> TransferError:
    if code == "403":
        return AccessDenied(
            f"{doing}: the store refuses us (403); without the right to list the bucket that can also "
            "mean that the object is not there"
        )
    return AccessDenied(said)


def _said(error: boto.ClientError, code: str) -> str:
    message = str(error.response.get("Error", {}).get("Message", "")).strip()
    return f"{message[:200]} ({code})" if message and message != code else code


def _status(error: boto.ClientError) -> int:
    metadata: Any = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))


def _retry_after_s(error: boto.ClientError) -> float | None:
    metadata: Any = error.response.get("ResponseMetadata", {})
    return answers.retry_after_s(str(metadata.get("HTTPHeaders", {}).get("retry-after", "")))
