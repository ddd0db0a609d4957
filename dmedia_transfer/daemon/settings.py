"""Settings: what of the configuration goes to which part, when the daemon starts and when it is read anew."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Final

from dmedia_transfer.bindings import Bindings
from dmedia_transfer.config import Config
from dmedia_transfer.daemon.reloading import Reloading
from dmedia_transfer.daemon.surroundings import Around
from dmedia_transfer.filestore import FileStores
from dmedia_transfer.limiter import Timetable, parse_rate
from dmedia_transfer.manager import Settings, TransferManager
from dmedia_transfer.reach import MeteredRule, OverMetered
from dmedia_transfer.workers.pool import WorkerPool

OF_THE_MANAGER: Final = (
    "max_transfers",
    "max_transfers_per_store",
    "connections",
    "stall_s",
    "pause_grace_s",
    "expire_days",
    "download_limit",
    "upload_limit",
    "timetable",
    "network",
)
TOGETHER_FILES: Final = 256  # of one leaf, which a worker gets at once: what they cost together is shared by so many
OF_THE_WORKERS: Final = ("worker_idle_s", "log_level")
OF_THE_FILESTORES: Final = ("floor_bytes", "floor_percent")
OF_THE_BINDINGS: Final = ("allowed_http_hosts",)
OF_THE_SURROUNDINGS: Final = ("network", "power")
LIVE: Final = frozenset({*OF_THE_MANAGER, *OF_THE_WORKERS, *OF_THE_FILESTORES, *OF_THE_BINDINGS, *OF_THE_SURROUNDINGS})


def of(config: Config) -> Settings:
    """What of the configuration the manager goes by.

    Raises:
        InvalidConfig: A limit or the timetable cannot be understood.
    """
    return Settings(
        max_transfers=config.max_transfers,
        max_transfers_per_store=config.max_transfers_per_store,
        connections=config.connections,
        stall_s=config.stall_s,
        pause_grace_s=config.pause_grace_s,
        expire_s=config.expire_days * 24 * 3600,
        download_bps=parse_rate(config.download_limit, setting="download_limit"),
        upload_bps=parse_rate(config.upload_limit, setting="upload_limit"),
        timetable=Timetable.parse(config.timetable),
        together_files=TOGETHER_FILES,
        over_metered=MeteredRule(OverMetered(config.network.metered), config.network.metered_max_bytes),
    )


def live(
    reloading: Reloading,
    *,
    manager: TransferManager,
    pool: WorkerPool,
    filestores: FileStores,
    bindings: Bindings,
    around: Around,
) -> None:
    """Let these parts follow the configuration while they run."""

    def of_the_manager(config: Config) -> Callable[[], None]:
        before, after = of(reloading.config), of(config)
        names = [one.name for one in fields(Settings)]
        changes = {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}
        return lambda: manager.configure(**changes)

    def of_the_workers(config: Config) -> Callable[[], None]:
        def change() -> None:
            pool.change(idle_s=config.worker_idle_s, log_level=config.log_level)
            logging.root.setLevel(config.log_level)

        return change

    def of_the_filestores(config: Config) -> Callable[[], None]:
        def change() -> None:
            filestores.keep_free(floor_bytes=config.floor_bytes, floor_percent=config.floor_percent)
            manager.stores_changed()

        return change

    def of_the_bindings(config: Config) -> Callable[[], None]:
        def change() -> None:
            bindings.allow_http(config.allowed_http_hosts)
            manager.stores_changed()

        return change

    def of_the_surroundings(config: Config) -> Callable[[], None]:
        return lambda: around.change(config)

    reloading.live(OF_THE_MANAGER, of_the_manager)
    reloading.live(OF_THE_WORKERS, of_the_workers)
    reloading.live(OF_THE_FILESTORES, of_the_filestores)
    reloading.live(OF_THE_BINDINGS, of_the_bindings)
    reloading.live(OF_THE_SURROUNDINGS, of_the_surroundings)
