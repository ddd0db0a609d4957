"""docs/rest.md, made of the OpenAPI document: `python -m dmedia_transfer.web.markdown > docs/rest.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dmedia_transfer.web.table import description

_INTRODUCTION: Final = """\
# The REST API

*Made of the description at `/api/v1/openapi.json` (OpenAPI 3.1), which is made of the code that checks requests:
`make docs`. A test holds this page to it.*

The daemon serves it on loopback and on a Unix socket when the configuration says so:

```toml
[web]
enabled = true      # off until somebody wants it
port = 5988         # on 127.0.0.1; 0: any
```

**Programs** show the token in `web.token` in the state folder, which only its owner can read:

```sh
token=$(cat ~/.local/state/dmedia-transfer/web.token)
curl -H "Authorization: Bearer $token" http://127.0.0.1:5988/api/v1/summary
```

The Unix socket `web.sock` in the runtime folder needs no token: who can open it is the user, by its mode and by what
the kernel says of the other side.

```sh
curl --unix-socket "$XDG_RUNTIME_DIR/dmedia-transfer/web.sock" http://localhost/api/v1/transfers
```

**Browsers** are let in by the one-time link of `dmedia-transfer web`, which sets a cookie (`HttpOnly`,
`SameSite=Strict`). The page has a host name of its own below `localhost`, as cookies do not know ports and other users
of the machine have ports, too. Requests of other origins and to other names of this machine are refused;
there is no CORS.

**Errors** are problem details (RFC 9457, `application/problem+json`); their `code` is the name of the error on D-Bus.
Bodies have at most 1 MiB, uploads aside. Numbers have their units in their names; times are Unix seconds.

**Other machines** of the library are meant with `?machine=`: their queues are edited in their documents, and what they
do is what they told of it last.
"""


def render(document: Mapping[str, Any]) -> str:
    """The page."""
    return "\n".join(_lines(document)).rstrip() + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield _INTRODUCTION
    for tag in document["tags"]:
        yield f"## {tag['name'].capitalize()}\n"
        yield f"{tag['description']}\n"
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if operation["tags"] == [tag["name"]]:
                    yield from _operation(path, method, operation)
    yield "## Values\n"
    for name, schema in document["components"]["schemas"].items():
        yield from _schema(name, schema)


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n"
    yield f"{operation['summary']}.\n"
    if operation.get("description"):
        yield operation["description"] + "\n"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "| parameter | in | | |"
        yield "| --- | --- | --- | --- |"
        for each in parameters:
            needed = ", needed" if each["required"] and each["in"] != "path" else ""
            text = each.get("description") or each["schema"].get("description", "")
            yield f"| `{each['name']}` | {each['in']} | {_type(each['schema'])}{needed} | {_cell(text)} |"
        yield ""
    body = operation.get("requestBody")
    if body:
        yield f"Body: {_content(body['content'])}\n"
    for status, answer in operation["responses"].items():
        if int(status) < 400:
            content = _content(answer["content"]) if "content" in answer else "no body"
            told = "" if answer["description"] == "It is done" else f" ({answer['description']})"
            yield f"Answers {status}: {content}{told}"
            for name, header in answer.get("headers", {}).items():
                yield f"- `{name}`: {header['description']}"
            yield ""
    refused = [status for status in operation["responses"] if int(status) >= 400]
    yield f"Problems: {', '.join(refused)}\n"


def _content(content: Mapping[str, Any]) -> str:
    media, each = next(iter(content.items()))
    return _type(each["schema"]) if media == "application/json" and "$ref" in each["schema"] else f"`{media}`"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if schema.get("description"):
        yield schema["description"].strip() + "\n"
    if "enum" in schema:
        yield ", ".join(f"`{value}`" for value in schema["enum"]) + "\n"
        return
    if "oneOf" in schema:
        yield "One of " + ", ".join(_type(each) for each in schema["oneOf"]) + ".\n"
        return
    yield "| key | | |"
    yield "| --- | --- | --- |"
    needed = schema.get("required", ())
    for key, each in schema.get("properties", {}).items():
        default = "" if key in needed or each.get("default") in (None, "", []) else f", `{json.dumps(each['default'])}`"
        may = "" if key in needed else " (may be left out)"
        yield f"| `{key}` | {_type(each)}{default}{may} | {_cell(each.get('description', ''))} |"
    yield ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, Mapping) else "object"
    return str(schema.get("type", "any"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render(description()))
