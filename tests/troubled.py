"""Something between a daemon and its database that hands requests on, or answers in its place."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import requests

from tests.scripted import Answer, Asked, ScriptedServer

HAND_ON = ("Authorization", "Content-Type", "Accept")
UPSTREAM_TIMEOUT_S = 100

InPlace = Callable[[Asked], Answer | None]
"""What to say instead of the database; None: let it answer itself."""


class TroubledDatabase:
    """Hands requests on to the server at `upstream`, which may change while it runs."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.asked_in_trouble = 0  # requests that were not handed on
        self._trouble: InPlace | None = None
        self._lock = threading.Lock()
        self._streams: set[requests.Response] = set()
        self._server = ScriptedServer(self._respond)

    @property
    def url(self) -> str:
        """Where clients ask."""
        return self._server.url

    @contextlib.contextmanager
    def trouble(self, in_place: InPlace) -> Iterator[None]:
        """Answer in the database's place, and cut the feeds that are open, while the block lasts."""
        self.asked_in_trouble = 0
        self._trouble = in_place
        self.cut()
        try:
            yield
        finally:
            self._trouble = None

    def cut(self) -> None:
        """Cut all answers that are under way."""
        with self._lock:
            streams = list(self._streams)
        for response in streams:
            response.raw.shutdown()

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._server.__exit__(kind, error, trace)

    def _respond(self, asked: Asked) -> Answer:
        trouble = self._trouble
        answer = trouble(asked) if trouble is not None else None
        if answer is not None:
            self.asked_in_trouble += 1
            return answer
        return self._hand_on(asked)

    def _hand_on(self, asked: Asked) -> Answer:
        streamed = asked.query.get("feed") in ("continuous", "longpoll")
        query = f"?{urlencode(asked.query)}" if asked.query else ""
        with requests.Session() as session:
            session.trust_env = False
            try:
                response = session.request(
                    asked.method,
                    f"{self.upstream}{asked.path}{query}",
                    headers={name: asked.headers[name] for name in HAND_ON if name in asked.headers},
                    data=asked.body or None,
                    stream=streamed,
                    timeout=UPSTREAM_TIMEOUT_S,
                )
            except requests.RequestException:
                return Answer(502, body=b"no upstream", content_type="text/plain")
        kind = response.headers.get("Content-Type", "application/json")
        if streamed:
            return Answer(response.status_code, pieces=self._pieces(response), content_type=kind)
        return Answer(response.status_code, body=response.content, content_type=kind)

    def _pieces(self, response: requests.Response) -> Iterable[bytes]:
        with self._lock:
            self._streams.add(response)
        try:
            with contextlib.suppress(requests.RequestException, OSError, AttributeError):
                yield from response.iter_content(chunk_size=None)
        finally:
            with self._lock:
                self._streams.discard(response)
            response.close()
