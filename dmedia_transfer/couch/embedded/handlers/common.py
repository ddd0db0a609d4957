"""What all handlers share: the context, answers, and the parameters of a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from dmedia_transfer.couch.embedded import jsontext
from dmedia_transfer.couch.embedded.hub import Hub
from dmedia_transfer.couch.embedded.incoming import parse_rev
from dmedia_transfer.couch.embedded.problems import Problem, bad_query, bad_request
from dmedia_transfer.couch.embedded.reading import View
from dmedia_transfer.couch.embedded.revtree import Rev
from dmedia_transfer.couch.embedded.sqlite import Engine


@dataclass(frozen=True, slots=True)
class Context:
    """What the server is made of."""

    engine: Engine
    hub: Hub
    user: str
    uuid: str  # of this server; another one for another file


CONTEXT = web.AppKey("context", Context)


def context_of(request: web.Request) -> Context:
    """The server's parts."""
    return request.app[CONTEXT]


def database_name(request: web.Request) -> str:
    """The database that the URL names."""
    return request.match_info["db"]


def answer(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON; bytes are JSON already. A newline ends it, as in CouchDB."""
    body = value if isinstance(value, bytes) else jsontext.dumps(value)
    return web.Response(body=body + b"\n", status=status, headers=headers, content_type="application/json")


def etag(rev: object) -> dict[str, str]:
    """The header that names a revision."""
    return {"ETag": f'"{rev}"'}


def accepts(request: web.Request, content_type: str) -> bool:
    """Whether the client takes this type."""
    accepted = request.headers.get("Accept", "*/*")
    family = content_type.partition("/")[0] + "/*"
    names = {item.partition(";")[0].strip().lower() for item in accepted.split(",")}
    return not names.isdisjoint({content_type, family, "*/*"})


def require_json(request: web.Request) -> None:
    """As CouchDB, and against forms that a web page sends without asking.

    Raises:
        Problem: 415.
    """
    if request.content_type != "application/json":
        raise Problem(415, "bad_content_type", "Content-Type must be application/json")


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object that came.

    Raises:
        Problem: 400 or 415.
    """
    require_json(request)
    return jsontext.load_object(await request.read())


def flag(request: web.Request, name: str) -> bool:
    """A parameter that is `true` or `false`; false if it is not given.

    Raises:
        Problem: 400.
    """
    match request.query.get(name, "false"):
        case "true":
            return True
        case "false" | "":
            return False
    raise bad_query(f"Invalid boolean parameter: {name}")


def number(request: web.Request, name: str) -> int | None:
    """A parameter that is a whole number, not negative.

    Raises:
        Problem: 400.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 15:
        raise bad_query(f"Invalid value for {name}")
    return int(text)


def json_parameter(request: web.Request, *names: str, default: Any = None) -> Any:
    """A parameter that is JSON, under the first of these names that is given.

    Raises:
        Problem: 400.
    """
    for name in names:
        if name in request.query:
            return jsontext.loads(request.query[name])
    return default


def queried_rev(request: web.Request) -> Rev | None:
    """The revision that the query names.

    Raises:
        Problem: 400.
    """
    text = request.query.get("rev")
    return parse_rev(text) if text else None


def given_rev(request: web.Request) -> Rev | None:
    """The revision that is edited: the query or `If-Match` names it.

    Raises:
        Problem: 400, if it is none, or they name different ones.
    """
    asked = request.query.get("rev")
    matched = request.headers.get("If-Match", "").strip('" ')
    if asked and matched and asked != matched:
        raise bad_request("Document rev and etag have different values")
    text = asked or matched
    return parse_rev(text) if text else None


def given_revs(request: web.Request, name: str) -> tuple[Rev, ...] | None:
    """The revisions that a parameter lists.

    Raises:
        Problem: 400.
    """
    revs = json_parameter(request, name)
    if revs is None:
        return None
    if not isinstance(revs, list):
        raise bad_request(f"`{name}` must be a JSON array")
    return tuple(parse_rev(rev) for rev in revs)


def view_of(request: web.Request) -> View:
    """What the query wants to be told of documents.

    Raises:
        Problem: 400.
    """
    meta = flag(request, "meta")
    since = given_revs(request, "atts_since")
    return View(
        revs=flag(request, "revs"),
        revs_info=meta or flag(request, "revs_info"),
        conflicts=meta or flag(request, "conflicts"),
        deleted_conflicts=meta or flag(request, "deleted_conflicts"),
        local_seq=flag(request, "local_seq"),
        attachments=flag(request, "attachments") or since is not None,
        atts_since=since,
    )
