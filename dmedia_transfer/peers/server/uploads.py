"""Uploads: those that peers have begun here. See `serving.uploads` for how they are kept.

An upload is for one thread at a time, but that the daemon may confirm it meanwhile.
"""

from __future__ import annotations

import threading
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
        self._lock = threading.RLock()  # held while a record is replaced, or goes

    def save(self, upload: Upload, *, tail: bytes | memoryview | None = None, durable: bool = True) -> None:
        """Keep an upload as it is now, and the bytes of its incomplete leaf if they changed."""
        with self._lock:
            super().save(upload, tail=tail, durable=durable)

    def confirm(self, upload_id: str) -> None:
        """The daemon has taken note of a file that was published. Also while another thread has the upload."""
        with self._lock:
            upload = self.get(upload_id)
            if upload is not None and upload.dropped:
                self.remove(upload)
            elif upload is not None:
                self.save(upload.model_copy(update={"told": True}), durable=False)

    def drop(self, upload: Upload) -> bool:
        """Its sender wants it no more. False if it is kept for now: the daemon has not confirmed the file yet."""
        with self._lock:
            upload = self.get(upload.id) or upload
            if not upload.finished or upload.told:
                return True
            self.save(upload.model_copy(update={"dropped": True}))
            return False

    def remove(self, upload: Upload) -> None:
        """Forget an upload; nothing of it stays here."""
        with self._lock:
            super().remove(upload)
