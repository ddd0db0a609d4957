"""Makes docs/dbus.md out of the XML that the service is held to: `make docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

HERE: Final = Path(__file__).parent
XML: Final = HERE.parent / "data" / "dbus-1" / "interfaces" / "org.dmedia.Transfer1.xml"
PAGE: Final = HERE / "dbus.md"

_ARGUMENT: Final = re.compile(r"^@(\w+):\s*", re.MULTILINE)
_REFERENCE: Final = re.compile(r"@(\w+)")
_CHANGES: Final = {"const": "never changes", "false": "no signal tells of changes"}


@dataclass(frozen=True)
class Note:
    """A comment of the XML: what is said of a thing as a whole, and of each of its arguments."""

    text: str = ""
    arguments: dict[str, str] = field(default_factory=dict)


def read_note(comment: str) -> Note:
    """A comment in the manner of gtk-doc: `Name:`, then `@argument: …`, then paragraphs.

    Raises:
        ValueError: It does not begin with a name.
    """
    lines = "\n".join(line.strip() for line in comment.strip().splitlines())
    name, colon, rest = lines.partition(":")
    if not colon or not re.fullmatch(r"[\w.]+", name):
        raise ValueError(f"a comment of the XML begins with what it is about, and not with {lines[:40]!r}")
    head, _, text = rest.partition("\n\n")
    pieces = _ARGUMENT.split(head)
    arguments = {pieces[i]: _one_line(pieces[i + 1]) for i in range(1, len(pieces), 2)}
    paragraphs = [_one_line(each) for each in [pieces[0], *text.split("\n\n")]]
    return Note("\n\n".join(each for each in paragraphs if each), arguments)


def page(xml: str) -> str:
    """The whole page."""
    root = ElementTree.fromstring(xml, ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True)))  # noqa: S314
    head = re.search(r"<!--(.*?)-->\s*<node>", xml, re.DOTALL)
    lines = ["# D-Bus", "", "Made from the XML by `make docs`; the running service is held to the same file.", ""]
    lines += [_paragraphs(head.group(1)) if head else "", ""]
    for interface, note in _with_notes(root, "interface"):
        lines += [f"## {interface.attrib['name']}", ""]
        if "short_description" in note.arguments:
            lines += [f"**{note.arguments['short_description'].rstrip('.')}.**", ""]
        lines += [note.text, ""] if note.text else []
        for kind, title in (("method", "Methods"), ("property", "Properties"), ("signal", "Signals")):
            found = list(_with_notes(interface, kind))
            if found:
                lines += [f"### {title}", ""]
                lines += _properties(found) if kind == "property" else _calls(found)
    return "\n".join(lines).rstrip() + "\n"


def _calls(found: list[tuple[ElementTree.Element, Note]]) -> Iterator[str]:
    for element, note in found:
        given = [each for each in element.iter("arg") if each.attrib.get("direction") != "out"]
        answered = [each for each in element.iter("arg") if each.attrib.get("direction") == "out"]
        yield f"#### `{element.attrib['name']}({_signature(given)}){' → ' + _signature(answered) if answered else ''}`"
        yield ""
        if note.text:
            yield note.text
            yield ""
        told = [each for each in element.iter("arg") if each.attrib["name"] in note.arguments]
        for each in told:
            yield f"- `{each.attrib['name']}`: {note.arguments[each.attrib['name']]}"
        if told:
            yield ""


def _properties(found: list[tuple[ElementTree.Element, Note]]) -> Iterator[str]:
    yield "| property | type | |"
    yield "| --- | --- | --- |"
    for element, note in found:
        changes = [_CHANGES.get(each.attrib["value"], "") for each in element.iter("annotation")]
        text = " ".join([note.text.replace("\n\n", " "), *(f"*({each})*" for each in changes if each)]).strip()
        yield f"| `{element.attrib['name']}` | `{element.attrib['type']}` | {text.replace('|', chr(92) + '|')} |"
    yield ""


def _with_notes(parent: ElementTree.Element, tag: str) -> Iterator[tuple[ElementTree.Element, Note]]:
    note = Note()
    for child in parent:
        if callable(child.tag):  # a comment has the function that makes comments for a tag
            note = read_note(child.text or "")
        else:
            if child.tag == tag:
                yield child, note
            note = Note()


def _signature(arguments: list[ElementTree.Element]) -> str:
    return ", ".join(f"{each.attrib['type']} {each.attrib['name']}" for each in arguments)


def _one_line(text: str) -> str:
    return _REFERENCE.sub(r"`\1`", " ".join(text.split()))


def _paragraphs(text: str) -> str:
    return "\n\n".join(_one_line(each) for each in re.split(r"\n\s*\n", text) if each.strip())


if __name__ == "__main__":
    PAGE.write_text(page(XML.read_text(encoding="utf-8")), encoding="utf-8")
