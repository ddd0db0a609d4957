"""The table of backends: a name in a store's `plugin`, and what makes a backend of that kind.

A module is imported when its backend is first asked for, so that a worker that only ever speaks to one kind of store
pays for one. Others register a factory in the entry-point group `dmedia_transfer.backends`, under a name of their own.
"""

from __future__ import annotations

import contextlib
import importlib
from importlib.metadata import entry_points
from typing import Final, Protocol, cast

from dmedia_transfer.errors import Unknown
from dmedia_transfer.model import StoreSpec
from dmedia_transfer.ports import Backend

ENTRY_POINT_GROUP: Final = "dmedia_transfer.backends"
_BUILT_IN: Final = {
    "memory": ("dmedia_transfer.backends.memory", "MemoryBackend"),
    "peer": ("dmedia_transfer.backends.peer", "PeerBackend"),
    "s3": ("dmedia_transfer.backends.s3", "S3Backend"),
}


class Factory(Protocol):
    """Makes a backend in the process that uses it; called with the store's settings as its document has them."""

    def __call__(self, spec: StoreSpec, *, stall_s: float, connections: int) -> Backend:
        """A backend for this store.

        Args:
            spec: The store, enabled on this machine.
            stall_s: Seconds without a byte after which a connection is cut.
            connections: How many calls will be under way at once.

        Raises:
            InvalidDocument: The store's settings cannot be used.
        """


def names() -> list[str]:
    """The names of all backends, sorted; none is imported."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def factory(plugin: str) -> Factory:
    """What makes backends of this name.

    Raises:
        Unknown: There is no such backend, or the package that offers it cannot be imported.
    """
    if plugin in _BUILT_IN:  # first: nobody else's package takes the place of what is shipped
        module, name = _BUILT_IN[plugin]
        return cast(Factory, getattr(importlib.import_module(module), name))
    for point in entry_points(group=ENTRY_POINT_GROUP, name=plugin):
        try:
            return cast(Factory, point.load())
        except Exception as error:  # any error, it is somebody else's code
            raise Unknown(f"backend {plugin!r} ({point.value}) cannot be loaded: {error}") from error
    raise Unknown(f"there is no backend {plugin!r}; known are {', '.join(names())}")


def preload(plugin: str) -> None:
    """Import a backend ahead of its use, and what it has to read (its `preload`), in a process that forks its users.

    Only one that is shipped: somebody else's may start threads as it is imported, and then nothing can be forked.
    """
    if plugin in _BUILT_IN:
        with contextlib.suppress(Exception):  # whoever uses it is told why it fails
            getattr(importlib.import_module(_BUILT_IN[plugin][0]), "preload", _nothing)()


def _nothing() -> None:
    """Most backends have nothing to read."""


def create(spec: StoreSpec, *, stall_s: float, connections: int) -> Backend:
    """A backend for this store.

    Raises:
        Unknown: Its plugin is not known here.
        InvalidDocument: Its settings cannot be used.
    """
    return factory(spec.plugin)(spec, stall_s=stall_s, connections=connections)
