"""LocalStores: the stores that this machine can use, out of documents, bindings and FileStores."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, Protocol

from dmedia_transfer import documents
from dmedia_transfer.errors import StoreMissing, Unknown, shown
from dmedia_transfer.model import StoreSpec

PLUGIN_GROUP: Final = "dmedia_transfer.backends"
FILESTORE: Final = "filestore"
S3: Final = "s3"
PEER: Final = "peer"  # another machine's FileStore; how it is reached is never said by the store's own document
DEFAULT_COST: Final = 100
COSTS: Final[Mapping[str, int]] = {FILESTORE: 0, PEER: 10, S3: DEFAULT_COST}

_OF_ALL_STORES: Final = frozenset(
    {"_id", "_rev", "_attachments", "type", "time", "ver", "plugin", "name", "copies", "cost"}
)

_log = logging.getLogger(__name__)


class Bindings(Protocol):
    """What is asked of this machine's list of stores."""

    def filestores(self) -> Collection[str]:
        """The IDs of this machine's FileStores."""

    def check_enabled(self, raw: Mapping[str, Any]) -> None:
        """Raise AccessDenied unless the store of this document may be used."""

    def login(self, raw: Mapping[str, Any]) -> str:
        """Where the credentials for the store of this document are, as `StoreSpec.login` says it."""


class FileStoreSurvey(Protocol):
    """What is asked of FileStores that are held open for a moment."""

    def holding(self, file_id: str) -> list[StoreSpec]: ...

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec: ...


class FileStores(Protocol):
    """What is asked of this machine's FileStores; see the like-named methods of `ports.Stores`."""

    def spec(self, store_id: str) -> StoreSpec:
        """Raises StoreMissing if it is not there now."""

    def holding(self, file_id: str) -> list[StoreSpec]: ...

    def partial(self, file_id: str) -> StoreSpec | None: ...

    def unfinished(self, before: float) -> list[tuple[str, StoreSpec]]: ...

    def path(self, file_id: str) -> str | None: ...

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec:
        """The FileStore to save to.

        Raises:
            StoreMissing: This machine has no FileStore, or none is mounted.
            DiskFull: None has room above its floor.
        """

    def survey(self) -> contextlib.AbstractContextManager[FileStoreSurvey]: ...

    def room(self) -> tuple[frozenset[str], int]: ...

    def homes(self) -> list[StoreSpec]: ...


class Peers(Protocol):
    """What is asked of the other machines of the library."""

    def settings(self, machine_id: str) -> Mapping[str, Any]:
        """What the backend of peers has to know of a machine. Raises StoreMissing, which says why it cannot be used."""


def registered_plugins() -> frozenset[str]:
    """The names of backends that are installed on this machine."""
    return frozenset(point.name for point in importlib.metadata.entry_points(group=PLUGIN_GROUP))


class _Survey:
    """`ports.Survey`: each store is looked up once."""

    def __init__(self, spec: Callable[[str], StoreSpec], filestores: FileStoreSurvey) -> None:
        self.spec = functools.cache(spec)
        self.holding = filestores.holding
        self.destination = filestores.destination


class LocalStores:
    """`ports.Stores`. Documents come in from the feed's thread; any thread may ask."""

    def __init__(
        self,
        *,
        bindings: Bindings,
        filestores: FileStores,
        plugins: Callable[[], Collection[str]] = registered_plugins,
        peers: Peers | None = None,
        machine_id: str = "",
    ) -> None:
        """Nothing is read yet.

        Args:
            bindings: The list of stores.
            filestores: The FileStores of this machine.
            plugins: Names the backends of third parties; it is asked once, when it first matters.
            peers: The other machines; None where none is spoken to. Asked on the thread that asks for a `spec`.
            machine_id: Which machine this is.
        """
        self._bindings = bindings
        self._filestores = filestores
        self._ask_plugins = plugins
        self._peers = peers
        self._machine_id = machine_id
        self._plugins: Collection[str] | None = None
        self._lock = threading.Lock()
        self._documents: dict[str, Mapping[str, Any]] = {}

    def on_store(self, raw: Mapping[str, Any]) -> None:
        """A store document came in or has changed. One that cannot be believed leaves the last good one in force.

        Raises:
            InvalidDocument: Naming the first key that cannot be believed.
        """
        store = documents.read_store(raw)
        if store.plugin == S3:
            documents.read_s3_settings(raw)
        with self._lock:
            self._documents[store.id] = dict(raw)

    def on_store_gone(self, store_id: str) -> None:
        """A store document was deleted."""
        with self._lock:
            self._documents.pop(store_id, None)

    def document(self, store_id: str) -> Mapping[str, Any]:
        """The raw document of a store.

        Raises:
            Unknown: There is none.
        """
        with self._lock:
            raw = self._documents.get(store_id)
        if raw is None:
            raise Unknown(f"there is no document of a store {shown(store_id)}")
        return raw

    def known(self) -> list[Mapping[str, Any]]:
        """The raw documents of all stores."""
        with self._lock:
            return list(self._documents.values())

    def spec(self, store_id: str) -> StoreSpec:
        """How to reach a store.

        Raises:
            Unknown: There is no document for it, or its plugin is not known.
            AccessDenied: It was not enabled on this machine, or changed since.
            StoreMissing: A FileStore that is not mounted, or is on a machine that cannot be spoken to.
        """
        if store_id in self._bindings.filestores():
            return self._filestores.spec(store_id)
        raw = self.document(store_id)
        store = documents.read_store(raw)
        if store.plugin == FILESTORE:
            # Trust in its machine is what enables it: whoever is in the library may be spoken to.
            return StoreSpec(store_id, PEER, self._of_peer(store), cost=_cost(store, PEER))
        settings = self._settings(store, raw)
        self._bindings.check_enabled(raw)
        login = self._bindings.login(raw) if store.plugin == S3 else ""
        return StoreSpec(store_id, store.plugin, settings, cost=_cost(store, store.plugin), login=login)

    def holding(self, file_id: str) -> list[StoreSpec]:
        """The local FileStores that have the file, complete."""
        return self._filestores.holding(file_id)

    def partial(self, file_id: str) -> StoreSpec | None:
        """The local FileStore that has a part of the file, if one has."""
        return self._filestores.partial(file_id)

    def unfinished(self, before: float) -> list[tuple[str, StoreSpec]]:
        """The partial files (their IDs) that were last written to before this time (Unix seconds), and where."""
        return self._filestores.unfinished(before)

    def path(self, file_id: str) -> str | None:
        """Where a local FileStore has the file, complete."""
        return self._filestores.path(file_id)

    def destination(self, file_id: str, file_bytes: int) -> StoreSpec:
        """The FileStore to save to.

        Raises:
            StoreMissing: This machine has no FileStore, or none is mounted.
            DiskFull: None has room above its floor.
        """
        return self._filestores.destination(file_id, file_bytes)

    @contextlib.contextmanager
    def survey(self) -> Iterator[_Survey]:
        """The same for many files in a moment; see `ports.Stores.survey`."""
        with self._filestores.survey() as filestores:
            yield _Survey(self.spec, filestores)

    def room(self) -> tuple[frozenset[str], int]:
        """The FileStores that are there now (their IDs), and the most bytes that one of them can take."""
        return self._filestores.room()

    def _of_peer(self, store: documents.StoreDocument) -> Mapping[str, Any]:
        if not store.machine_id:
            raise StoreMissing(f"store {store.id} is a FileStore, and its document names no machine that has it")
        if store.machine_id == self._machine_id:
            raise StoreMissing(
                f"store {store.id} is a FileStore of this machine, which does not know its folder: "
                "`dmedia-transfer stores add-filestore FOLDER` tells it"
            )
        where = f"store {store.id} is a FileStore of another machine"
        if self._peers is None:
            raise StoreMissing(f"{where} ({store.machine_id}), and `peer.enabled` is false here")
        try:
            return self._peers.settings(store.machine_id)
        except StoreMissing as error:
            raise StoreMissing(f"{where}: {error}") from None

    def homes(self) -> list[StoreSpec]:
        """The FileStores of this machine that are there."""
        return self._filestores.homes()

    def _settings(self, store: documents.StoreDocument, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        if store.plugin == S3:
            return documents.read_s3_settings(raw).model_dump()
        if self._plugins is None:
            self._plugins = self._ask_plugins()
        if store.plugin not in self._plugins or store.plugin == PEER:
            raise Unknown(
                f"document {store.id}, key 'plugin': there is no backend {shown(store.plugin)} on this machine; a "
                f"package that registers it in the entry-point group {PLUGIN_GROUP!r} has to be installed"
            )
        return {key: value for key, value in raw.items() if key not in _OF_ALL_STORES}


def _cost(store: documents.StoreDocument, plugin: str) -> int:
    return COSTS.get(plugin, DEFAULT_COST) if store.cost is None else store.cost
