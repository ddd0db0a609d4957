"""The routes of resumable uploads: tus 1.0, and what became of one as JSON."""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from dmedia_transfer.errors import Unknown
from dmedia_transfer.serving import tuswords
from dmedia_transfer.serving.tus import Tus
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.intake import NewFile, WebIntake
from dmedia_transfer.web.models import Model
from dmedia_transfer.web.refusals import Refusal
from dmedia_transfer.web.routes import API, Answer, Header, Route

TAG = "uploads"
OWNER: Final = "rest"
UploadId = Annotated[str, Field(pattern="^[0-9a-f]{32}$", description="as the `Location` of the POST ends")]


class UploadOut(Model):
    """An upload of a new file."""

    id: str
    size: int = Field(description="bytes")
    offset: int = Field(description="bytes that are here")
    finished: bool = Field(description="whether the file is published, and in the library")
    name: str
    mime: str
    store_id: str = Field(description="the FileStore that it goes to")
    upload_to: str = Field(description="the store that it is sent on to; else empty")
    file_id: str = Field(description="once it is finished; else empty")


def location(upload_id: str) -> str:
    """Where an upload is."""
    return f"{API}/uploads/{upload_id}"


def _intake(api: Api) -> WebIntake:
    if api.intake is None:
        raise Refusal(404, "this daemon takes no uploads")
    return api.intake


def _tus(api: Api) -> Tus[NewFile]:
    if api.tus is None:
        raise Refusal(404, "this daemon takes no uploads")
    return api.tus


async def offer_uploads(api: Api, request: web.BaseRequest) -> web.StreamResponse:
    """Say what of tus there is."""
    return _tus(api).options()


async def begin_upload(api: Api, request: web.BaseRequest) -> web.StreamResponse:
    """Begin an upload of a new file.

    `Upload-Metadata` may have `filename`, `filetype`, `store_id` (the FileStore to save it in; else the one with the
    most room) and `upload_to` (a store that it is sent on to when it is complete). The file is hashed as it comes; when
    all of it is here it is in the library.
    """
    return await _tus(api).create(request, OWNER)


async def look_at_upload(api: Api, request: web.BaseRequest, upload_id: UploadId) -> web.StreamResponse:
    """Say how far an upload is."""
    return await _tus(api).head(request, upload_id, OWNER)


async def go_on_with_upload(api: Api, request: web.BaseRequest, upload_id: UploadId) -> web.StreamResponse:
    """Send more of it."""
    return await _tus(api).patch(request, upload_id, OWNER)


async def cancel_upload(api: Api, request: web.BaseRequest, upload_id: UploadId) -> web.StreamResponse:
    """Give an upload up; what has arrived of it is removed."""
    return await _tus(api).delete(request, upload_id, OWNER)


async def show_upload(api: Api, upload_id: UploadId) -> UploadOut:
    """Show an upload, and which file it has become."""
    upload = _intake(api).get(upload_id)
    if upload is None:
        raise Unknown("there is no such upload: it was never begun, has expired, or was deleted")
    return UploadOut(
        id=upload.id,
        size=upload.size,
        offset=upload.offset,
        finished=upload.finished,
        name=upload.name,
        mime=upload.mime,
        store_id=upload.store_id,
        upload_to=upload.upload_to,
        file_id=upload.file_id if upload.finished else "",
    )


_VERSION: Final = Header("Tus-Resumable", "the version of the protocol", {"const": "1.0.0"}, required=True)
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 10**15}
_CHECKSUM: Final = Header("Upload-Checksum", f"of this body: one of {', '.join(tuswords.TUS_CHECKSUMS)}, and base64")
_OFFSET: Final = Header("Upload-Offset", "how many bytes are here", _NUMBER)
_EXPIRES: Final = Header("Upload-Expires", "when it goes, if nobody goes on with it")

ROUTES = (
    Route(
        "OPTIONS",
        "/uploads",
        offer_uploads,
        TAG,
        raw=True,
        answers=(Answer(204, "Its headers say it", headers=(Header("Tus-Extension", "which extensions"),)),),
    ),
    Route(
        "POST",
        "/uploads",
        begin_upload,
        TAG,
        raw=True,
        takes=tuswords.UPLOAD_CONTENT_TYPE,
        headers=(
            _VERSION,
            Header("Upload-Length", "bytes", {**_NUMBER, "minimum": 1}, required=True),
            Header("Upload-Metadata", "`key base64,key base64`"),
            _CHECKSUM,
        ),
        answers=(Answer(201, "It is begun", headers=(Header("Location", "where it is"), _OFFSET, _EXPIRES)),),
        refuses=(408, 412, 413, 415, 423, 429, 460, 507),
    ),
    Route(
        "HEAD",
        "/uploads/{upload_id}",
        look_at_upload,
        TAG,
        raw=True,
        headers=(_VERSION,),
        answers=(Answer(200, "Its headers say it", headers=(_OFFSET, Header("Upload-Length", "bytes"), _EXPIRES)),),
        refuses=(412, 423),
    ),
    Route(
        "PATCH",
        "/uploads/{upload_id}",
        go_on_with_upload,
        TAG,
        raw=True,
        takes=tuswords.UPLOAD_CONTENT_TYPE,
        headers=(
            _VERSION,
            Header("Upload-Offset", "where these bytes begin: where it is", _NUMBER, required=True),
            _CHECKSUM,
        ),
        answers=(Answer(204, "These bytes are here", headers=(_OFFSET, _EXPIRES)),),
        refuses=(408, 409, 412, 413, 415, 423, 460, 507),
    ),
    Route(
        "DELETE",
        "/uploads/{upload_id}",
        cancel_upload,
        TAG,
        raw=True,
        headers=(_VERSION,),
        answers=(Answer(204, "It is gone"),),
        refuses=(412, 423),
    ),
    Route("GET", "/uploads/{upload_id}", show_upload, TAG),
)
