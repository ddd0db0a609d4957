"""Refusals: what our errors are in HTTP, as problem details (RFC 9457) with the codes that D-Bus has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from dmedia_transfer import busnames, errors
from dmedia_transfer.errors import TransferError

CONTENT_TYPE: Final = "application/problem+json"

_STATUSES: Final[tuple[tuple[type[TransferError], int], ...]] = (  # the first that fits
    (errors.DiskFull, 507),
    (errors.Waiting, 409),
    (errors.Transient, 503),
    (errors.Interrupted, 503),
    (errors.AccessDenied, 403),
    (errors.Unknown, 404),
    (errors.FileMissing, 404),
    (errors.ObjectMissing, 404),
    (errors.InvalidInput, 400),
    (errors.Conflict, 409),
    (errors.IllegalEvent, 409),
    (errors.Permanent, 409),
)
_TITLES: Final[Mapping[int, str]] = {
    400: "The request cannot be used",
    401: "Who are you?",
    403: "This is not allowed",
    404: "There is no such thing",
    405: "This cannot be done here",
    406: "This is not offered",
    408: "The request took too long",
    409: "This cannot be done now",
    410: "This is gone",
    412: "Another version is wanted",
    413: "The request is too large",
    415: "This kind of content is not taken",
    416: "There are no such bytes",
    422: "The request cannot be used",
    423: "Somebody else is at it",
    460: "The checksum does not match",
    421: "This is not the host that was meant",
    429: "There is too much of it already",
    500: "This is a fault of dmedia-transfer",
    503: "Not now",
    507: "The disk is full",
}
_RETRY_S: Final = 5


class Problem(BaseModel):
    """Why a request was not done (RFC 9457)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field("about:blank", description="always `about:blank`: `code` says which error it is")
    title: str = Field(description="the status in words")
    status: int = Field(description="the HTTP status", ge=400, le=599)
    detail: str = Field(description="one sentence for people: what was being done to what, and what is wrong")
    code: str = Field(description="the name of the error, the same as on D-Bus: `org.dmedia.Transfer1.Error.Unknown`")


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, detail: str, *, kind: str = "", headers: Mapping[str, str] | None = None, close: bool = False
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.code = busnames.ERROR_PREFIX + (kind or _KINDS.get(status, "InvalidRequest"))
        self.headers = dict(headers or {})
        self.close = close  # the rest of the request's body is not worth waiting for

    def response(self) -> web.Response:
        """As it is sent."""
        problem = Problem(
            title=_TITLES.get(self.status, "It was not done"), status=self.status, detail=self.detail, code=self.code
        )
        body = json.dumps(problem.model_dump()).encode()
        response = web.Response(status=self.status, body=body, content_type=CONTENT_TYPE, headers=self.headers)
        if self.close:
            response.force_close()
        return response


_KINDS: Final[Mapping[int, str]] = {
    401: "AccessDenied",
    403: "AccessDenied",
    404: "Unknown",
    408: "Stalled",
    410: "Unknown",
    421: "AccessDenied",
    429: "ServerBusy",
    500: "Internal",
    503: "ServerBusy",
}


def refused(error: TransferError) -> Refusal:
    """What an error of ours is to whoever asked."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    headers = {"Retry-After": str(round(error.retry_after_s or _RETRY_S))} if status == 503 else {}
    kind = error.kind if type(error).__module__ == errors.__name__ else type(error).__mro__[1].__name__
    return Refusal(status, str(error), kind=kind, headers=headers)
