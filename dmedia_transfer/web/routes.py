"""Routes: what can be asked for, as one table: it routes, checks what comes in, and is what OpenAPI is made of.

A route is a handler with types. Its parameter `query` is a model of the query, `body` of the body; all others, but
the first, are parts of the path; what it returns is a model of the answer; its docstring is its description. The same
types check a request and describe it, so one cannot say anything else than the other.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints
from urllib.parse import unquote

from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, TypeAdapter, ValidationError

from dmedia_transfer.errors import shown
from dmedia_transfer.web.refusals import Refusal

if TYPE_CHECKING:
    from dmedia_transfer.web.api import Api

Handler = Callable[..., Awaitable[Any]]

API: Final = "/api/v1"
MAX_BODY_BYTES: Final = 1024 * 1024  # ten thousand file IDs are half of it
_PART: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Header:
    """A header that a route takes, or answers with."""

    name: str
    text: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of a route that is not one JSON model."""

    status: int
    text: str
    content: str = ""  # its media type; empty: it has no body
    headers: tuple[Header, ...] = ()


@dataclass(frozen=True)
class Route:
    """Something that can be asked for."""

    method: str
    path: str  # below `base`; parts in braces
    handle: Handler
    tag: str
    status: int = 200  # of the answer, if that is a model
    raw: bool = False  # `handle` gets the request as its second argument and makes the whole answer
    answers: tuple[Answer, ...] = ()  # of a raw route
    headers: tuple[Header, ...] = ()  # that a raw route takes
    takes: str = ""  # the media type of a raw route's body
    refuses: tuple[int, ...] = ()  # statuses of problems, besides those that every route may have
    base: str = API  # empty for what others look for in a place of their own

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The types of the handler."""
        return get_type_hints(self.handle, include_extras=True)

    @cached_property
    def query(self) -> type[BaseModel] | None:
        """The model of the query."""
        return self.hints.get("query")

    @cached_property
    def body(self) -> type[BaseModel] | None:
        """The model of the body."""
        return self.hints.get("body")

    @cached_property
    def answer(self) -> type[BaseModel] | None:
        """The model of the answer."""
        return None if self.raw else self.hints.get("return")

    @cached_property
    def parts(self) -> dict[str, TypeAdapter[Any]]:
        """The parts of the path."""
        return {name: TypeAdapter(self.hints[name]) for name in _PART.findall(self.path)}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the path looks like."""
        return re.compile(self.base + _PART.sub(r"(?P<\1>[^/]+)", self.path))

    @property
    def where(self) -> str:
        """Its whole path."""
        return self.base + self.path

    @property
    def name(self) -> str:
        """What the operation is called."""
        return str(self.handle.__name__)

    @property
    def summary(self) -> str:
        """Its first line."""
        return (inspect.getdoc(self.handle) or "").partition("\n")[0].rstrip(".")

    @property
    def description(self) -> str:
        """All that is said of it."""
        return (inspect.getdoc(self.handle) or "").partition("\n")[2].strip()

    async def __call__(self, api: Api, request: web.BaseRequest, parts: Mapping[str, str]) -> web.StreamResponse:
        """Answer a request.

        Raises:
            Refusal: It cannot be used.
        """
        arguments: dict[str, Any] = {name: _part(adapter, name, parts[name]) for name, adapter in self.parts.items()}
        arguments["query"] = read_query(self.query, request.rel_url.query)
        if self.query is None:
            del arguments["query"]
        if self.raw:
            answer: web.StreamResponse = await self.handle(api, request, **arguments)
            return answer
        if self.body is not None:
            arguments["body"] = await read_body(self.body, request)
        result: BaseModel = await self.handle(api, **arguments)
        text = result.model_dump_json(by_alias=True)
        return web.Response(status=self.status, text=text, content_type="application/json")


class Table:
    """All routes."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._outside = frozenset(route.where for route in self.routes if route.base != API)

    def knows(self, path: str) -> bool:
        """Whether a path is of the API, or one of the few of ours that are elsewhere."""
        return path.startswith(f"{API}/") or path in self._outside

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route of a request, and the parts of its path; a HEAD is answered by what answers GET.

        Raises:
            Refusal: There is none.
        """
        allowed: list[str] = []
        for route in self.routes:
            match = route.pattern.fullmatch(path)
            if match is None:
                continue
            if route.method == method:
                return route, match.groupdict()
            allowed.append(route.method)
        if method == "HEAD" and "GET" in allowed:
            return self.find("GET", path)
        if allowed:
            methods = sorted({*allowed, *(["HEAD"] if "GET" in allowed else [])})
            raise Refusal(
                405, f"{path} takes {', '.join(methods)} and not {shown(method)}", headers={"Allow": ", ".join(methods)}
            )
        raise Refusal(404, f"there is nothing at {shown(path)}; {API}/openapi.json says what there is")


def read_query(model: type[BaseModel] | None, query: MultiMapping[str]) -> BaseModel | None:
    """The query, checked.

    Raises:
        Refusal: Something in it is not known, or cannot be used.
    """
    fields = model.model_fields if model is not None else {}
    values: dict[str, Any] = {}
    for name in dict.fromkeys(query):
        given = query.getall(name)
        if name in fields and _is_many(fields[name].annotation):
            values[name] = given
        elif len(given) > 1:
            raise Refusal(400, f"the parameter {shown(name)} is there {len(given)} times")
        else:
            values[name] = given[0]
    if model is None:
        if values:
            raise Refusal(400, f"there is no parameter {shown(next(iter(values)))}")
        return None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _unusable("parameter", error) from None


async def read_body(model: type[BaseModel], request: web.BaseRequest) -> BaseModel:
    """The body, checked; JSON types are meant strictly.

    Raises:
        Refusal: It is too large, no JSON, or something in it cannot be used.
    """
    if request.content_type != "application/json":
        raise Refusal(415, "the body should be application/json", close=True)
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    async for data in request.content.iter_any():
        body += data
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    try:
        return model.model_validate_json(bytes(body), strict=True)
    except ValidationError as error:
        raise _unusable("key", error) from None


def _too_large() -> Refusal:
    return Refusal(413, f"a body has at most {MAX_BODY_BYTES:,} bytes", close=True)


def _part(adapter: TypeAdapter[Any], name: str, text: str) -> Any:
    try:
        return adapter.validate_python(unquote(text, errors="strict"))
    except (ValidationError, UnicodeDecodeError):
        raise Refusal(404, f"{shown(text)} is no {name.replace('_', ' ')}") from None


def _unusable(what: str, error: ValidationError) -> Refusal:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return Refusal(400, f"there is no {what} {shown(where)}")
    problem = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not where:
        return Refusal(400, f"the body: {problem}")
    value = "" if first["type"] == "missing" else f", but it is {shown(first['input'])}"
    return Refusal(400, f"{what} {shown(where)}: {problem}{value}")


def _is_many(annotation: Any) -> bool:
    if get_origin(annotation) in (list, tuple):
        return True
    return any(_is_many(each) for each in get_args(annotation))
