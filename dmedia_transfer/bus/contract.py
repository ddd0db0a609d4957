"""The interface definitions, read from the XML: what exists, with which signatures, and how it is introspected.

`org.dmedia.Transfer1.xml` is the file that is installed for other programs. Marshalling and introspection both come
from it, so the service cannot differ from what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final
from xml.etree import ElementTree  # only our own files are parsed
from xml.sax.saxutils import quoteattr

_HERE: Final = Path(__file__).parent
# A built package has a copy; a checkout has the one file, and no link to it, which a copy of the checkout may lose.
_PACKAGED: Final = _HERE / "org.dmedia.Transfer1.xml"
_CONTRACT: Final = _HERE.parents[1] / "data" / "dbus-1" / "interfaces" / _PACKAGED.name
_EMITS: Final = "org.freedesktop.DBus.Property.EmitsChangedSignal"
_DOCTYPE: Final = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)


@dataclass(frozen=True, slots=True)
class Method:
    """What goes in and what comes out."""

    takes: str  # signature of all arguments together
    returns: str


@dataclass(frozen=True, slots=True)
class Property:
    """A property that can be read; none can be written."""

    type: str
    tells: bool  # PropertiesChanged tells when it changes


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of the XML."""

    name: str
    methods: Mapping[str, Method]
    properties: Mapping[str, Property]
    signals: Mapping[str, str]  # name → signature
    xml: str  # as introspection shows it


@cache
def interfaces() -> Mapping[str, Interface]:
    """All interfaces, by name."""
    found: dict[str, Interface] = {}
    for file in (_PACKAGED if _PACKAGED.exists() else _CONTRACT, _HERE / "standard.xml"):
        text = file.read_text(encoding="utf-8")
        for element in ElementTree.fromstring(text).iter("interface"):  # noqa: S314
            interface = _interface(element)
            found[interface.name] = interface
    return found


def introspection(names: Iterable[str], children: Iterable[str]) -> str:
    """The introspection data of an object with these interfaces and child nodes."""
    body = "".join(interfaces()[name].xml for name in names)
    nodes = "".join(f"  <node name={quoteattr(child)}/>\n" for child in children)
    return f"{_DOCTYPE}<node>\n{body}{nodes}</node>\n"


def _interface(element: ElementTree.Element) -> Interface:
    element.tail = "\n"
    ElementTree.indent(element, level=1)
    return Interface(
        name=element.attrib["name"],
        methods={
            each.attrib["name"]: Method(_signature(each, "in"), _signature(each, "out"))
            for each in element.iter("method")
        },
        properties={each.attrib["name"]: _property(each) for each in element.iter("property")},
        signals={
            each.attrib["name"]: "".join(argument.attrib["type"] for argument in each.iter("arg"))
            for each in element.iter("signal")
        },
        xml="  " + ElementTree.tostring(element, encoding="unicode"),
    )


def _signature(method: ElementTree.Element, direction: str) -> str:
    return "".join(each.attrib["type"] for each in method.iter("arg") if each.attrib["direction"] == direction)


def _property(element: ElementTree.Element) -> Property:
    emits = [each.attrib["value"] for each in element.iter("annotation") if each.attrib["name"] == _EMITS]
    return Property(element.attrib["type"], tells=emits not in (["const"], ["false"]))
