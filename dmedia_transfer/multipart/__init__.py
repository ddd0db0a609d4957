"""MultipartUpload: an upload that pauses, resumes and exports its session, over the backend interface."""

from dmedia_transfer.multipart.bodies import BufferBody, FileBody
from dmedia_transfer.multipart.core import MultipartUpload
from dmedia_transfer.multipart.events import Failed, PartSent, Paused, Pausing, Ready, Resumed, Uploaded
from dmedia_transfer.multipart.parts import FileParts, StreamParts
from dmedia_transfer.multipart.roles import Diary, PartSource, Piece, Target
from dmedia_transfer.multipart.session import Session

__all__ = [
    "BufferBody",
    "Diary",
    "Failed",
    "FileBody",
    "FileParts",
    "MultipartUpload",
    "PartSent",
    "PartSource",
    "Paused",
    "Pausing",
    "Piece",
    "Ready",
    "Resumed",
    "Session",
    "StreamParts",
    "Target",
    "Uploaded",
]
