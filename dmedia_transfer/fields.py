"""Checked texts and numbers that documents are made of; a refusal says in words what was expected."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field


def _matches(pattern: str, words: str) -> AfterValidator:
    """A text that the whole of `pattern` matches; ASCII, since it may become a header, a URL or an object's name."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(words)
        return text

    return AfterValidator(check)


def _no_dots(prefix: str) -> str:
    if any(part in {".", ".."} for part in prefix.split("/")):
        raise ValueError("has a part `.` or `..`")
    return prefix


def _no_userinfo(url: str) -> str:
    if "@" in url:
        raise ValueError("has an `@`: a user or a password does not belong into a document")
    return url


FileId = Annotated[str, _matches("[A-Z2-7]{48}", "is not a file ID (48 characters of base32)")]
RandomId = Annotated[str, _matches("[A-Z2-7]{24}", "is not a machine or store ID (24 characters of base32)")]
RandomIdOrNone = Annotated[str, _matches("([A-Z2-7]{24})?", "is not a machine or store ID (24 characters of base32)")]
Ext = Annotated[str, _matches("[A-Za-z0-9]{0,16}", "is not a file's extension (up to 16 letters and digits, no dot)")]
Mime = Annotated[str, _matches(r"([\w.+-]{1,100}/[\w.+-]{1,100})?", "is not a media type like `video/mp4`")]
Prefix = Annotated[
    str,
    _matches(
        r"(?=.{0,512}\Z)([\w.=@-]+/)*[\w.=@-]*", "is not a prefix (letters, digits and `-_.=@`, parts ended by `/`)"
    ),
    AfterValidator(_no_dots),
]
Bucket = Annotated[str, _matches(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", "is not a bucket's name")]
Region = Annotated[str, _matches("[a-z0-9-]{0,64}", "is not a region's name")]
StorageClass = Annotated[str, _matches("[A-Z0-9_]{0,64}", "is not a storage class like `STANDARD_IA`")]
UrlOrNone = Annotated[
    str,
    AfterValidator(_no_userinfo),
    _matches(r"((?=.{0,2048}\Z)https?://[\w.:\[\]-]+(/[\w.~%/-]*)?)?", "is not a URL like `https://host:port`"),
]
Priority = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
