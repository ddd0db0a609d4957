"""TLS 1.3 with pinned certificates, for both sides, and its errors in our words.

OpenSSL is handed the trusted certificates as its only authorities and refuses, during the handshake, who has none, a
stranger's, or one that has expired. After the handshake `pinned` compares the exact bytes: what an accepted
certificate may have signed is not accepted. Names are not looked at: the certificate is the name.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from typing import Final

from dmedia_transfer.errors import AccessDenied, ConnectionLost, TransferError, Transient
from dmedia_transfer.peers.certificates import Certificate, fingerprint
from dmedia_transfer.peers.identity import Identity

_STRANGER: Final = "its certificate is not in this library"
_STRANGERS_WE: Final = "it does not know our certificate: it may not have seen our machine document yet"
_PASSING: Final = frozenset({_STRANGER, _STRANGERS_WE})  # once machine documents have come over

# What OpenSSL says, and what it means to a person. First our own verdict on the other side, then theirs on us.
_VERDICTS: Final[Mapping[str, str]] = {
    "certificate has expired": "its certificate has expired (or a clock is wrong)",
    "certificate is not yet valid": "its certificate is not valid yet (or a clock is wrong)",
    "self-signed certificate": _STRANGER,
    "self signed certificate": _STRANGER,
    "unable to get local issuer certificate": _STRANGER,
    "unable to verify the first certificate": _STRANGER,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "HTTP_REQUEST": "it spoke HTTP without TLS",
    "WRONG_VERSION_NUMBER": "it did not speak TLS",
    "ALERT_UNKNOWN_CA": _STRANGERS_WE,
    "ALERT_CERTIFICATE_EXPIRED": "our certificate has expired, or its clock is wrong",
    "ALERT_BAD_CERTIFICATE": "it does not take our certificate",
    "CERTIFICATE_REQUIRED": "it wants a certificate, and we showed none",
    "ALERT_ACCESS_DENIED": "it denies us access",
    "ALERT_PROTOCOL_VERSION": "it does not take our version of TLS",
}


def server_context(identity: Identity, trusted: Collection[Certificate]) -> ssl.SSLContext:
    """A context for accepting connections of exactly these."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # a resumed session would not be asked for its certificate again
    return _prepared(context, identity, trusted)


def client_context(identity: Identity, trusted: Collection[Certificate]) -> ssl.SSLContext:
    """A context for connecting to a peer that shows one of these; `pinned` is called after the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _prepared(context, identity, trusted)


def _prepared(context: ssl.SSLContext, identity: Identity, trusted: Collection[Certificate]) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(identity.file)
    for certificate in trusted:  # none at all is right, too: then nobody is accepted
        context.load_verify_locations(cadata=certificate.der)
    return context


def pinned(der: bytes | None, trusted: Collection[str], *, who: str) -> str:
    """The fingerprint of the certificate that the other side has shown.

    Args:
        der: `getpeercert(binary_form=True)` of the connection.
        trusted: The fingerprints that are accepted.
        who: The other side, for the message.

    Raises:
        AccessDenied: It showed none, or another one.
    """
    if der is None:
        raise AccessDenied(f"{who} showed no certificate")
    shown = fingerprint(der)
    if shown not in trusted:
        raise AccessDenied(f"{who} showed the certificate {shown:.16}, which is not accepted in this library")
    return shown


def explained(error: OSError, *, who: str) -> TransferError:
    """What an error of a handshake, or of the first read after it, means.

    In TLS 1.3 a client has finished its handshake before the server has looked at its certificate: a refusal comes
    with the first read.
    """
    if not isinstance(error, ssl.SSLError):
        return ConnectionLost(f"connecting to {who}: {error.strerror or error or 'it was cut'}")
    reason = getattr(error, "reason", None) or ""  # Python's own subclasses may be without
    said = f"{reason} {getattr(error, 'verify_message', '') or ''} {error}"
    for words, meaning in _VERDICTS.items():
        if words in said:
            kind = Transient if meaning in _PASSING else AccessDenied
            return kind(f"no trusted connection with {who}: {meaning}")
    return ConnectionLost(f"connecting to {who}: {reason or error}")
