"""Local files: read, partial, publish, free space."""

from dmedia_transfer.filestore.glimpse import Glimpse
from dmedia_transfer.filestore.importing import Imported
from dmedia_transfer.filestore.listing import Found
from dmedia_transfer.filestore.partial import Partial
from dmedia_transfer.filestore.reader import Reader
from dmedia_transfer.filestore.scrubbing import Scrub
from dmedia_transfer.filestore.store import FileStore
from dmedia_transfer.filestore.stores import FileStores
from dmedia_transfer.filestore.together import Together, Written

__all__ = [
    "FileStore",
    "FileStores",
    "Found",
    "Glimpse",
    "Imported",
    "Partial",
    "Reader",
    "Scrub",
    "Together",
    "Written",
]
