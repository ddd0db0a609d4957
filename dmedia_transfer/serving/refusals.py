"""Refusals: answers that are no success, as exceptions, and what our errors mean in HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from dmedia_transfer import errors
from dmedia_transfer.errors import TransferError

_STATUSES: Final[tuple[tuple[type[TransferError], int, int | None], ...]] = (  # first match: status, Retry-After
    (errors.DiskFull, 507, None),
    (errors.StoreMissing, 503, 60),
    (errors.FileMissing, 404, None),
    (errors.DatabaseUnavailable, 503, 10),
    (errors.Transient, 503, 5),
    (errors.AccessDenied, 403, None),
    (errors.InvalidInput, 400, None),
    (errors.Unknown, 422, None),
)


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str], *, close: bool) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers
        self.close = close  # the rest of the request's body is not worth waiting for

    def response(self) -> web.Response:
        """As it is sent: one sentence of text."""
        response = web.Response(status=self.status, text=f"{self.message}\n", headers=self.headers)
        if self.close:
            response.force_close()
        return response


def refusal(
    status: int,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    retry_after_s: int | None = None,
    close: bool = False,
) -> Refusal:
    """A refusal with one sentence for people."""
    extra = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Refusal(status, message, {**(headers or {}), **extra}, close=close)


def refused(error: TransferError) -> Refusal:
    """What an error of ours means to the other side. It says what, but no path of this machine."""
    for kind, status, retry_after_s in _STATUSES:
        if isinstance(error, kind):
            return refusal(status, _plain(error), retry_after_s=retry_after_s)
    return refusal(500, f"this machine could not do it ({error.kind})")


def _plain(error: TransferError) -> str:
    if isinstance(error, errors.StoreMissing):
        return "the FileStore is not there now"
    if isinstance(error, errors.DatabaseUnavailable):
        return "the database of this machine does not answer now"
    if isinstance(error, errors.AccessDenied):
        return "the FileStore cannot be used"
    if isinstance(error, errors.Transient):
        return "this machine is busy with it now"
    return str(error)
