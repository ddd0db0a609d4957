"""TransferManager: events in, jobs and notices out; owns all state, knows no edge."""

from dmedia_transfer.manager.core import TransferManager
from dmedia_transfer.manager.settings import Settings

__all__ = ["Settings", "TransferManager"]
