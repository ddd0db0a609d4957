"""Api: what all handlers share. For the web's event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from dmedia_transfer import documents
from dmedia_transfer.errors import Unknown
from dmedia_transfer.model import Transfer
from dmedia_transfer.serving.tus import Tus
from dmedia_transfer.web.board import Board
from dmedia_transfer.web.bridge import Bridge
from dmedia_transfer.web.counts import Counts
from dmedia_transfer.web.disks import Disks
from dmedia_transfer.web.edges import Edges, Raw
from dmedia_transfer.web.facts import Facts
from dmedia_transfer.web.guard import Guard
from dmedia_transfer.web.intake import NewFile, WebIntake
from dmedia_transfer.web.models import TransferOut
from dmedia_transfer.web.rates import RateHistory
from dmedia_transfer.web.refusals import Refusal
from dmedia_transfer.web.stream import Stream
from dmedia_transfer.web.tokens import Tokens

P = ParamSpec("P")
R = TypeVar("R")


class Api:
    """The edges, and what is known of the manager."""

    def __init__(self, edges: Edges, *, bridge: Bridge, tokens: Tokens, guard: Guard) -> None:
        self.edges = edges
        self.bridge = bridge
        self.tokens = tokens
        self.guard = guard
        self.board = Board()
        self.stream = Stream()
        self.rates = RateHistory()
        self.facts = Facts(edges.documents, bridge)
        self.intake: WebIntake | None = None  # uploads of new files
        self.tus: Tus[NewFile] | None = None
        self.counts = Counts()
        self.disks = Disks(edges.filestores, bridge)
        self.description: Mapping[str, Any] = {}  # the OpenAPI document
        self.catch_up: Callable[[], None] = lambda: None  # takes over what the manager has done up to now

    async def main(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something of the manager on its own thread; what it changed is on the board when this returns."""
        result = await self.bridge.main(function, *args, **kwargs)
        self.catch_up()
        return result

    async def other_machine(self, machine: str | None) -> Raw | None:
        """The document of the machine that is meant, or None for this one.

        Raises:
            Unknown: There is no such machine.
            Refusal: Several could be meant.
        """
        if machine is None or machine == self.edges.machine_id:
            return None
        machines = await self.bridge.thread(self.edges.documents.find, {"type": documents.MACHINE})
        meant = [raw for raw in machines if raw["_id"] == machine] or [
            raw for raw in machines if raw.get("hostname") == machine
        ]
        if not meant:
            raise Unknown(f"there is no machine {machine!r:.100}")
        if len(meant) > 1:
            raise Refusal(409, f"{len(meant)} machines have this name: use the ID", kind="InvalidRequest")
        return None if meant[0]["_id"] == self.edges.machine_id else meant[0]

    async def told(self, transfers: Iterable[Transfer]) -> list[TransferOut]:
        """Transfers as they are told, with the names of their files."""
        transfers = list(transfers)
        names = await self.facts.names(one.key.file_id for one in transfers)
        return [TransferOut.of(one, names[one.key.file_id]) for one in transfers]
