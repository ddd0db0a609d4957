"""A CouchDB-driven transfer daemon for people with several devices and big media files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmedia_transfer.backends.s3_multipart import MultipartUpload as MultipartUpload

__version__ = "0.1.0"
__all__ = ["MultipartUpload", "__version__"]


def __getattr__(name: str) -> Any:
    """What programs use, imported when they first ask: it needs boto3, which most of this package does not."""
    if name == "MultipartUpload":
        from importlib import import_module

        return import_module("dmedia_transfer.backends.s3_multipart").MultipartUpload
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
