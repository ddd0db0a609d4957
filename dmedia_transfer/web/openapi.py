"""The description of the REST API as OpenAPI 3.1, made of the table of routes and of the models that check requests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dmedia_transfer import __version__
from dmedia_transfer.web.refusals import CONTENT_TYPE, Problem
from dmedia_transfer.web.routes import Answer, Header, Route

_REF: Final = "#/components/schemas/{model}"
_PROBLEMS: Final[Mapping[int, str]] = {
    400: "The request cannot be used",
    401: "No token, no session, or a wrong one",
    403: "From another origin or host, or not allowed",
    404: "There is no such thing",
    409: "It cannot be done now",
    408: "It took too long",
    412: "Another version is wanted",
    413: "The body is too large",
    415: "This kind of content is not taken",
    416: "There are no such bytes",
    423: "Somebody else is at it",
    429: "There is too much of it already",
    460: "The checksum does not match",
    503: "Not now; `Retry-After` says when",
    507: "The disk is full",
}
_ALWAYS: Final = (400, 401, 403, 404, 503)

_DESCRIPTION: Final = """\
The daemon of dmedia_transfer on this machine: its transfers, the other long jobs, its stores and its files, and the
queues of the other machines of the library.
"""


def describe(routes: Iterable[Route], tags: Mapping[str, str]) -> dict[str, Any]:
    """The OpenAPI document.

    Args:
        routes: What there is.
        tags: The sections, and a sentence about each.
    """
    routes = list(routes)
    models = _models(routes)
    refs, definitions = models_json_schema(models, ref_template=_REF)
    schemas = definitions.get("$defs", {})
    names = {model: refs[model, mode]["$ref"].rpartition("/")[2] for model, mode in models}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.where, {})[route.method.lower()] = _operation(route, names, schemas)
    queries = {names[route.query] for route in routes if route.query is not None}
    return _renamed(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "dmedia_transfer",
                "version": __version__,
                "description": _DESCRIPTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "tags": [{"name": name, "description": text} for name, text in tags.items()],
            "security": [{"token": []}, {"session": []}],
            "paths": paths,
            "components": {
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "for programs: the content of `web.token` in the state folder",
                    },
                    "session": {
                        "type": "apiKey",
                        "in": "cookie",
                        "name": "dmedia",
                        "description": "for the page: what the one-time link of `dmedia-transfer web` sets",
                    },
                },
                "schemas": {name: schema for name, schema in sorted(schemas.items()) if name not in queries},
            },
        }
    )


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    """With the names of models as readers expect them: `Transfer`, where the class is `TransferOut`."""
    schemas = document["components"]["schemas"]
    shorter = {name: name.removesuffix("Out") for name in schemas if name.endswith("Out")}
    text = json.dumps(document)
    for old, new in shorter.items():
        text = text.replace(f'"{_REF.format(model=old)}"', f'"{_REF.format(model=new)}"')
    renamed: dict[str, Any] = json.loads(text)
    components = renamed["components"]
    components["schemas"] = {shorter.get(name, name): each for name, each in components["schemas"].items()}
    for name, each in components["schemas"].items():
        each["title"] = name
    return renamed


def _models(routes: Iterable[Route]) -> list[tuple[type[BaseModel], Any]]:
    found: dict[type[BaseModel], str] = {Problem: "serialization"}
    for route in routes:
        for model, mode in ((route.query, "validation"), (route.body, "validation"), (route.answer, "serialization")):
            if model is not None:
                found.setdefault(model, mode)
    return list(found.items())


def _operation(route: Route, names: Mapping[type[BaseModel], str], schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": route.description,
        "parameters": [*_path_parameters(route), *_query_parameters(route, names, schemas), *_headers(route.headers)],
    }
    if route.body is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(model=names[route.body])}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.takes:
        content = {route.takes: {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    responses: dict[str, Any] = {}
    if route.answer is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(model=names[route.answer])}}}
        responses[str(route.status)] = {"description": "It is done", "content": content}
    for answer in route.answers:
        responses[str(answer.status)] = _answer(answer)
    body = (413, 415) if route.body is not None else ()
    for status in sorted({*_ALWAYS, *body, *route.refuses}):
        content = {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model=names[Problem])}}}
        responses[str(status)] = {"description": _PROBLEMS[status], "content": content}
    operation["responses"] = responses
    return {key: value for key, value in operation.items() if value not in ("", [])}


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": adapter.json_schema(ref_template=_REF)}
        for name, adapter in route.parts.items()
    ]


def _query_parameters(
    route: Route, names: Mapping[type[BaseModel], str], schemas: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = schemas[names[route.query]]
    found = []
    for name, each in schema.get("properties", {}).items():
        plain = {key: value for key, value in each.items() if key not in ("title", "description", "default")}
        if "anyOf" in plain:  # a query has no null: what is not there is left out
            plain = next(one for one in plain["anyOf"] if one != {"type": "null"})
        if each.get("default") not in (None, "", []):
            plain = {**plain, "default": each["default"]}
        found.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": each.get("description", ""),
                "schema": plain,
            }
        )
    return found


def _headers(headers: Iterable[Header]) -> list[dict[str, Any]]:
    return [
        {
            "name": header.name,
            "in": "header",
            "required": header.required,
            "description": header.text,
            "schema": dict(header.schema),
        }
        for header in headers
    ]


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {"description": answer.text}
    if answer.content:
        kind = "object" if answer.content == "application/json" else "string"
        told["content"] = {answer.content: {"schema": {"type": kind}}}
    if answer.headers:
        told["headers"] = {
            header.name: {"description": header.text, "schema": dict(header.schema)} for header in answer.headers
        }
    return told
