"""Shortcut: objects are looked at, fetched and sent without boto3, which needs thousands of calls for each request.

That is what boto3 spends on checking parameters, on endpoints, and on parsing an answer into a dictionary: with it,
more than half of the time that Python took for a leaf was boto3's, and nearly all of what it took for a small file. So
boto3 makes the first request of each login. It decides everything: host, addressing of the bucket, region, credentials;
and what it sent is the model for those that follow, which are signed in the same way (`s3_signing`). Where boto3 signs
in another way, or a proxy is used, it goes on making all of them.

An answer that is no success becomes the error that boto3 would have raised; one that leads elsewhere makes the
request boto3's again, which knows about regions.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.exceptions import ClientError
from botocore.parsers import create_parser

from dmedia_transfer.backends.bodies import Answer, Payload
from dmedia_transfer.backends.connections import Origin
from dmedia_transfer.backends.exchange import Request
from dmedia_transfer.backends.s3_signing import EMPTY, UNSIGNED, Signature, quoted, signed
from dmedia_transfer.backends.s3_transport import Transport, host_header, origin_of

_DOUBTFUL: Final = frozenset({400, 401, 403})  # maybe the model is wrong by now: the next request is boto3's again


class Model(NamedTuple):
    """What boto3's requests have in common."""

    origin: Origin
    host: str  # the header
    base: str  # of all paths; the object's key follows
    user_agent: str
    region: str


class Said(NamedTuple):
    """The head of an answer that is a success, or says that there is no such object."""

    status: int
    headers: http.client.HTTPMessage  # names in any case


class Shortcut:
    """The requests of one login. Any thread may call, within an attempt."""

    def __init__(self, transport: Transport, client: Any, credentials: Any, *, signs_bodies: bool) -> None:
        """A shortcut that has learned nothing yet.

        Args:
            transport: Moves the bytes.
            client: boto3's, for what it knows of errors.
            credentials: botocore's, which renew themselves where they can.
            signs_bodies: A body's SHA-256 is part of the signature: nothing else guards it on its way.
        """
        self._transport = transport
        self._service = client.meta.service_model
        self._parser = create_parser(self._service.metadata["protocol"])
        self._credentials = credentials
        self._signs_bodies = signs_bodies
        self._model: Model | None = None
        self._doubted = ""  # where boto3 signs otherwise; it is not tried for each request again

    def learn(self, request: AWSPreparedRequest | None, key: str) -> None:
        """boto3 has sent this for the object `key`, with success."""
        if self._model is not None or request is None or self._transport.needs_proxy(request.url):
            return
        url = urlsplit(request.url)
        if self._doubted == url.netloc:
            return
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        signature = Signature.read(headers.get("authorization", ""))
        path = quoted(key, path=True)
        who = self._credentials.get_frozen_credentials().access_key
        if signature is not None and signature.access_key == who and url.path.endswith(f"/{path}"):
            origin, base, agent = origin_of(url), url.path.removesuffix(path), headers.get("user-agent", "")
            self._model = Model(origin, host_header(origin), base, agent, signature.region)
            return
        self._doubted = url.netloc

    def get(self, key: str, start: int, end: int) -> tuple[Said, Answer] | None:
        """Ask for a range of an object; the body is to be read or closed. None: that is for boto3 to do.

        Raises:
            ClientError: As boto3 would raise it.
            ConnectionLost: As the transport says.
        """
        return self._ask("GetObject", "GET", key, "", {"range": f"bytes={start}-{end - 1}"}, None, EMPTY)

    def head(self, key: str) -> Said | None:
        """Look at an object; one that is not there is an answer as well (404). None: that is for boto3 to do.

        Raises:
            ClientError: As boto3 would raise it.
            ConnectionLost: As the transport says.
        """
        asked = self._ask("HeadObject", "HEAD", key, "", {"x-amz-checksum-mode": "ENABLED"}, None, EMPTY)
        return None if asked is None else asked[0]

    def put_object(self, key: str, headers: Mapping[str, str], payload: Payload, sha256: bytes) -> Said | None:
        """Send a whole object, and return what the answer says of it. None: that is for boto3 to do.

        Args:
            key: The object's.
            headers: Its kind and its checksums, by lower-case name.
            payload: Its bytes.
            sha256: Of them.

        Raises:
            ClientError: As boto3 would raise it.
            ConnectionLost: As the transport says.
        """
        return self._send("PutObject", key, "", headers, payload, sha256)

    def put_part(
        self, key: str, upload_id: str, number: int, headers: Mapping[str, str], payload: Payload, sha256: bytes
    ) -> Said | None:
        """Send a part, and return what the answer says of it. None: that is for boto3 to do.

        Args:
            key: The object's.
            upload_id: The upload's.
            number: The part's.
            headers: Checksums, by lower-case name.
            payload: The part.
            sha256: Of the part.

        Raises:
            ClientError: As boto3 would raise it.
            ConnectionLost: As the transport says.
        """
        return self._send(
            "UploadPart", key, f"?partNumber={number}&uploadId={quoted(upload_id)}", headers, payload, sha256
        )

    def _send(
        self, operation: str, key: str, query: str, headers: Mapping[str, str], payload: Payload, sha256: bytes
    ) -> Said | None:
        content = sha256.hex() if self._signs_bodies else UNSIGNED
        sized = {**headers, "content-length": str(len(payload))}
        asked = self._ask(operation, "PUT", key, query, sized, payload, content)
        if asked is None:
            return None
        asked[1].read()
        return asked[0]

    def _ask(
        self,
        operation: str,
        method: str,
        key: str,
        query: str,
        varying: Mapping[str, str],
        payload: Payload | None,
        content: str,
    ) -> tuple[Said, Answer] | None:
        model = self._model
        if model is None:
            return None
        credentials = self._credentials.get_frozen_credentials()
        target = model.base + quoted(key, path=True) + query
        headers = signed(credentials, model.region, method, model.host, target, varying, content=content)
        headers["user-agent"] = model.user_agent
        request = Request(method, target, headers.items(), payload, repeatable=True)
        response, answer = self._transport.ask(model.origin, request)
        if response.status in (200, 206) or (response.status, method) == (404, "HEAD"):
            return Said(response.status, response.headers), answer
        body = answer.read()
        if 300 <= response.status < 400 or response.status in _DOUBTFUL:
            self._model = None
        if 300 <= response.status < 400:
            return None
        raise self._error(operation, response.status, response.getheaders(), body)

    def _error(self, operation: str, status: int, headers: list[tuple[str, str]], body: bytes) -> ClientError:
        shape = self._service.operation_model(operation).output_shape
        raw = {"status_code": status, "headers": HeadersDict(headers), "body": body}
        return ClientError(self._parser.parse(raw, shape), operation)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
