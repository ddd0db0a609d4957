"""A file's leaves in, confirmed parts out."""

from dmedia_transfer.upload.ending import abandon, abandon_current
from dmedia_transfer.upload.job import Upload

__all__ = ["Upload", "abandon", "abandon_current"]
