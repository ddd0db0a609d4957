"""`_changes`: what has changed, at once (`normal`), when something does (`longpoll`), or for ever (`continuous`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from dmedia_transfer.couch.embedded import changes, databases, jsontext
from dmedia_transfer.couch.embedded.changes import Page, Query, Row
from dmedia_transfer.couch.embedded.databases import Database
from dmedia_transfer.couch.embedded.handlers.common import (
    Context,
    context_of,
    database_name,
    flag,
    json_parameter,
    number,
    read_object,
    view_of,
)
from dmedia_transfer.couch.embedded.narrowing import narrow
from dmedia_transfer.couch.embedded.problems import Problem, bad_query, bad_request
from dmedia_transfer.couch.embedded.selector import compile_selector

DEFAULT_TIMEOUT_MS = 60_000  # also the longest, as in CouchDB
_FEEDS = ("normal", "longpoll", "continuous")


@dataclass(slots=True)
class _Feed:
    """A feed under way."""

    context: Context
    response: web.StreamResponse
    database: Database
    query: Query
    reached: int  # up to here everything was told, or did not match
    left: int | None  # rows that may still be told
    heartbeat_s: float | None
    timeout_s: float
    told: int = 0  # rows
    spoke_at: float = field(default_factory=time.monotonic)

    async def say(self, text: bytes) -> None:
        """Send something; the client's patience begins anew."""
        await self.response.write(text)
        self.spoke_at = time.monotonic()

    def commits(self) -> int:
        """What to remember before looking for changes."""
        return self.context.hub.commits(self.database.key)

    async def more(self, seen: int) -> bool:
        """Wait for a commit, keeping the line alive; False when the feed is to end.

        Args:
            seen: What `commits` was before the last look.
        """
        hub = self.context.hub
        while not hub.closing:
            patience_s = self.timeout_s if self.heartbeat_s is None else self.heartbeat_s
            left_s = self.spoke_at + patience_s - time.monotonic()
            if left_s > 0 and await hub.wait(self.database.key, seen, left_s):
                return not hub.closing
            if self.heartbeat_s is None:
                return False
            await self.say(b"\n")
        return False

    def seq(self) -> bytes:
        """Where the client goes on."""
        return jsontext.dumps(self.database.seq(self.reached))

    def rows(self, page: Page) -> list[bytes]:
        """The page's rows as JSON; counts them and moves on."""
        self.reached = page.reached
        if self.left is not None:
            self.left -= len(page.rows)
        return [self._row(row) for row in page.rows]

    def _row(self, row: Row) -> bytes:
        self.told += 1
        numbered = self.told % self.query.seq_interval == 0
        seq = jsontext.dumps(self.database.seq(row.seq)) if numbered else b"null"
        return b'{"seq":' + seq + b"," + row.rest + b"}"

    async def page(self) -> Page:
        """The next changes that are there."""
        after = self.reached
        if self.query.descending and self.told:
            after -= 1
        job = changes.page(self.database, self.query, after=after, limit=self.left)
        return await self.context.engine.read(job)

    async def pages(self) -> AsyncIterator[list[bytes]]:
        """All changes that are there now."""
        while self.left != 0:
            page = await self.page()
            yield self.rows(page)
            if not page.more:
                break


async def feed(request: web.Request) -> web.StreamResponse:
    """`GET` or `POST /db/_changes`."""
    kind = request.query.get("feed", "normal")
    if kind not in _FEEDS:
        raise bad_query(f"Unsupported feed: {kind}")
    body = await read_object(request) if request.method == "POST" and request.can_read_body else {}
    context, name = context_of(request), database_name(request)
    database = await context.engine.read(lambda connection: databases.find(connection, name))
    query = _query(request, body, descending=kind == "normal" and flag(request, "descending"))
    since = database.since(request.query.get("since", request.headers.get("Last-Event-ID", "0")).strip('"'))
    limit = number(request, "limit")
    heartbeat_s, timeout_s = _patience(request)
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache"})
    state = _Feed(
        context,
        response,
        database,
        query,
        database.update_seq if query.descending else since,
        limit,
        heartbeat_s,
        timeout_s,
    )
    with contextlib.suppress(ConnectionError):  # a reader who hangs up has heard enough
        await response.prepare(request)
        if kind == "continuous":
            await _continuous(state)
        else:
            await _results(state, wait=kind == "longpoll")
        await response.write_eof()
    return response


def _query(request: web.Request, body: dict[str, Any], *, descending: bool) -> Query:
    doc_ids = matcher = narrowing = None
    chosen = request.query.get("filter")
    if chosen == "_doc_ids":
        ids = body.get("doc_ids") if "doc_ids" in body else json_parameter(request, "doc_ids")
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise bad_request("`doc_ids` filter parameter is not a list of doc ids.")
        doc_ids = frozenset(ids)
    elif chosen == "_selector":
        if "selector" not in body:
            raise bad_request("Filter `_selector` needs a POST with a `selector`")
        matcher, narrowing = compile_selector(body["selector"]), narrow(body["selector"])
    elif chosen not in (None, "", "_design"):
        raise Problem(404, "not_found", f"There is no filter {chosen}")
    style = request.query.get("style", "main_only")
    if style not in ("main_only", "all_docs"):
        raise bad_query(f"Unknown style: {style}")
    return Query(
        all_leaves=style == "all_docs",
        include_docs=flag(request, "include_docs"),
        view=view_of(request),
        doc_ids=doc_ids,
        matcher=matcher,
        narrowing=narrowing,
        design=chosen == "_design",
        descending=descending,
        seq_interval=number(request, "seq_interval") or 1,
    )


def _patience(request: web.Request) -> tuple[float | None, float]:
    """Seconds between heartbeats, if there are any, and seconds without a change after which the feed ends."""
    timeout = number(request, "timeout")
    timeout_s = min(DEFAULT_TIMEOUT_MS if timeout is None else timeout, DEFAULT_TIMEOUT_MS) / 1000
    match request.query.get("heartbeat", "false"):
        case "false":
            return None, timeout_s
        case "true":
            return DEFAULT_TIMEOUT_MS / 1000, timeout_s
    heartbeat = number(request, "heartbeat")
    if not heartbeat:
        raise bad_request("The heartbeat value should be a positive integer (in milliseconds).")
    return heartbeat / 1000, timeout_s


async def _results(state: _Feed, *, wait: bool) -> None:
    """`{"results": [...], "last_seq": ..., "pending": ...}`."""
    await state.say(b'{"results":[\n')
    between = b""
    try:
        while True:
            seen = state.commits()
            async for rows in state.pages():
                if rows:
                    await state.say(between + b",\n".join(rows))
                    between = b",\n"
            if state.told or state.left == 0 or not wait or not await state.more(seen):
                break
        pending = await state.context.engine.read(changes.pending(state.database, state.query, state.reached))
    except Problem:  # the database is gone
        pending = 0
    await state.say(b'\n],\n"last_seq":' + state.seq() + b',"pending":%d}\n' % pending)


async def _continuous(state: _Feed) -> None:
    """A line for each change, empty lines as heartbeats; a last line when it ends."""
    caught_up = False
    try:
        while True:
            seen = state.commits()
            async for rows in state.pages():
                if rows:
                    await state.say(b"".join(row + b"\n" for row in rows))
            if state.left == 0:
                break
            if state.heartbeat_s is not None and not caught_up:
                await state.say(b"\n")  # all that was there is told
            caught_up = True
            if not await state.more(seen):
                break
    except Problem:  # the database is gone; as in CouchDB, only the next request is told so
        pass
    await state.say(b'{"last_seq":' + state.seq() + b',"pending":0}\n')
