"""What a machine document says in `peer`: the certificates that the machine shows, and where it may be reached."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dmedia_transfer.errors import InvalidDocument, InvalidInput, shown
from dmedia_transfer.peers.certificates import Certificate

MAX_CERTIFICATES: Final = 8  # one, and a few more while it rotates
MAX_ADDRESSES: Final = 32
_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?"
)


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer may listen. It is believed only once it has shown the certificate."""

    host: str  # a name or an IP address, without brackets
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: object) -> PeerAddress:
        """Read `host:port`, `192.0.2.7:8443` or `[2001:db8::7]:8443`.

        Raises:
            InvalidInput: It is no address.
        """
        host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
        if not (port.isdecimal() and port.isascii() and len(port) <= 5 and 1 <= int(port) <= 65535):
            raise InvalidInput(f"{shown(text)} is not an address like host:port")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
            try:
                ipaddress.IPv6Address(host)
            except ValueError:
                raise InvalidInput(f"{shown(text)} is not an address like [2001:db8::7]:port") from None
        elif not _HOST.fullmatch(host):
            raise InvalidInput(f"{shown(text)} is not an address like host:port")
        return cls(host, int(port))


@dataclass(frozen=True, slots=True)
class PeerSection:
    """What of `peer` can be believed, and what cannot."""

    certificates: tuple[Certificate, ...] = ()
    addresses: tuple[PeerAddress, ...] = ()
    problems: tuple[InvalidDocument, ...] = ()


def read_section(raw: Mapping[str, Any]) -> PeerSection:
    """Read `peer` of a machine document; a bad certificate or address is told of and disturbs no other."""
    document_id = str(raw.get("_id", "?"))
    peer = raw.get("peer")
    if peer is None:
        return PeerSection()
    if not isinstance(peer, Mapping):
        problem = InvalidDocument(document_id, "peer", f"should be an object, but it is {shown(peer)}")
        return PeerSection(problems=(problem,))
    problems: list[InvalidDocument] = []
    certificates: list[Certificate] = []
    addresses: list[PeerAddress] = []
    for position, text in _listed(peer, "certificates", MAX_CERTIFICATES, document_id, problems):
        try:
            certificates.append(Certificate.parse(text))
        except InvalidInput as error:
            problems.append(InvalidDocument(document_id, f"peer.certificates.{position}", str(error)))
    for position, text in _listed(peer, "addresses", MAX_ADDRESSES, document_id, problems):
        try:
            addresses.append(PeerAddress.parse(text))
        except InvalidInput as error:
            problems.append(InvalidDocument(document_id, f"peer.addresses.{position}", str(error)))
    return PeerSection(tuple(dict.fromkeys(certificates)), tuple(dict.fromkeys(addresses)), tuple(problems))


def write_section(
    before: object, certificates: Iterable[Certificate], addresses: Iterable[PeerAddress]
) -> dict[str, Any]:
    """`peer` of our own machine document; keys that this program does not know are carried through."""
    kept = dict(before) if isinstance(before, Mapping) else {}
    return {
        **kept,
        "certificates": [certificate.text for certificate in certificates],
        "addresses": [str(address) for address in addresses],
    }


def _listed(
    peer: Mapping[str, Any], key: str, most: int, document_id: str, problems: list[InvalidDocument]
) -> list[tuple[int, object]]:
    values = peer.get(key, [])
    if not isinstance(values, list):
        problems.append(InvalidDocument(document_id, f"peer.{key}", f"should be a list, but it is {shown(values)}"))
        return []
    if len(values) > most:
        problems.append(InvalidDocument(document_id, f"peer.{key}", f"has {len(values)} values, {most} are read"))
    return list(enumerate(values[:most]))
