"""The event stream: Server-Sent Events, numbered, with what a reader missed, or word that it missed something."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from dmedia_transfer.web.api import Api
from dmedia_transfer.web.guard import secured
from dmedia_transfer.web.models import Model
from dmedia_transfer.web.routes import Answer, Header, Route
from dmedia_transfer.web.stream import TooSlow, render

TAG = "events"
HEARTBEAT_S: Final = 15.0
PATIENCE_S: Final = 30.0  # for a reader that takes nothing
MOST_READERS: Final = 64
RETRY_MS: Final = 2000  # until a browser connects again

log = logging.getLogger(__name__)


class EventQuery(Model):
    """Where to begin."""

    last_event_id: Annotated[str, Field(max_length=64)] = Field(
        "", description="go on after this event; as the header `Last-Event-ID`, for the first connection of a browser"
    )


async def follow_events(api: Api, request: web.BaseRequest, query: EventQuery) -> web.StreamResponse:
    """Follow what happens, as Server-Sent Events.

    Each event has an ID of the form `LIFE.NUMBER`: a name for this run of the daemon, and a number that is one more
    than that of the event before. Who connects again says with `Last-Event-ID` what it has seen last, and gets what
    came after it. If that is not kept any more, or of another run, or if nothing was said, the first event is `reset`:
    read the lists anew, and go on from there.

    | event | data |
    | --- | --- |
    | `reset` | `why`; what was known may be old: read the lists anew |
    | `transfers` | `changed`: transfers as `GET /transfers` has them; `removed`: IDs |
    | `names` | names that have become known, by file ID |
    | `progress` | at most four times a second: `transfers`: lists of ID, bytes done, bytes in all, bytes per second, \
seconds left or null; `jobs`: the same, and files done; `download_rate`, `upload_rate` |
    | `jobs` | `changed`: jobs as `GET /jobs` has them; `removed`: IDs |
    | `summary` | as `GET /summary` |

    A reader that is too slow for it is cut, and finds `reset` when it comes back.
    """
    stream = api.stream
    asked = request.headers.get("Last-Event-ID", "") or query.last_event_id
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    secured(response)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    after = stream.after(asked) if asked else None
    greeting = f"retry: {RETRY_MS}\n\n".encode()
    if after is None:
        after = stream.last
        why = "this is another run of the daemon, or too much has happened since" if asked else "this is the beginning"
        greeting += render(stream.last_id, "reset", {"why": why})
    try:
        await _send(response, greeting)
        while True:
            events = await stream.read(after, wait_s=HEARTBEAT_S)
            await _send(response, b"".join(event.text for event in events) or b": all is well\n\n")
            after = events[-1].number if events else after
    except (TooSlow, TimeoutError):
        log.info("a reader of events was too slow, and is cut")
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("too slow") from None
    except ConnectionResetError:
        return response  # the reader has gone, as readers do


async def _send(response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await response.write(text)


ROUTES = (
    Route(
        "GET",
        "/events",
        follow_events,
        TAG,
        raw=True,
        headers=(Header("Last-Event-ID", "go on after this event"),),
        answers=(Answer(200, "The events, as they come", "text/event-stream"),),
    ),
)
