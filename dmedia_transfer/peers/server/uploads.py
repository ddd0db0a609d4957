"""Uploads: those that peers have begun here. See `serving.uploads` for how they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dmedia_transfer.fields import FileId, RandomId
from dmedia_transfer.serving import uploads

FOLDER: Final = "uploads"


class Upload(uploads.Kept):
    """One upload of a peer."""

    file_id: FileId
    store_id: RandomId  # the FileStore that it goes to
    machine_id: RandomId  # who sends it, and nobody else may ask for it
    made_partial: bool = False  # there was no partial file before it
    told: bool = False  # and the daemon knows
    dropped: bool = False  # whoever sent it has said that it is done; kept until the daemon knows

    def __str__(self) -> str:
        return f"upload {self.id:.8} of file {self.file_id} from machine {self.machine_id}"


class Uploads(uploads.Uploads[Upload]):
    """All uploads that were begun here and are not gone."""

    def __init__(self, folder: Path) -> None:
        """Take up what is in the folder."""
        super().__init__(folder, Upload)
