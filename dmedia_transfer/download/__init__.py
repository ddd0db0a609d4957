"""Sources and missing leaves in, a verified file out."""

from dmedia_transfer.download.job import Destination, Download
from dmedia_transfer.download.source import Reads, Source

__all__ = ["Destination", "Download", "Reads", "Source"]
