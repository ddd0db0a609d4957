"""The desktop's keyring (Secret Service): access keys of stores, for this person on this machine.

An access key is found only by all of what it was entered for: the store's ID, its endpoint and its bucket. Whoever
edits a store's document cannot have it sent elsewhere. The library is imported when a key is asked for, so that only
who logged in to a store pays for it. Over the bus the key goes encrypted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from dmedia_transfer.errors import AccessDenied, CredentialsExpired

APPLICATION: Final = "dmedia-transfer"
UNLOCK_S: Final = 120.0  # so long a person may take to type the keyring's password


@dataclass(frozen=True, slots=True)
class Place:
    """What an access key is bound to."""

    store_id: str
    endpoint_url: str  # empty: Amazon's
    bucket: str

    @classmethod
    def of(cls, store_id: str, settings: Mapping[str, Any]) -> Place:
        """The place of a store, by the settings of its document."""
        return cls(store_id, str(settings.get("endpoint_url") or ""), str(settings.get("bucket") or ""))

    @property
    def attributes(self) -> dict[str, str]:
        """By which the keyring finds it."""
        return {
            "application": APPLICATION,
            "store_id": self.store_id,
            "endpoint_url": self.endpoint_url or "aws",
            "bucket": self.bucket,
        }


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key; never shown."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def load(place: Place) -> AccessKey:
    """The access key for this place. Never asks anybody: a locked keyring is waited for.

    Raises:
        CredentialsExpired: There is no keyring on the session bus, or it is locked.
        AccessDenied: It has no access key for this place.
    """
    import secretstorage

    with _keyring(f"the access key of store {place.store_id}") as bus:
        collection = secretstorage.get_any_collection(bus)
        if collection.is_locked():
            raise CredentialsExpired(f"the keyring with the access key of store {place.store_id} is locked")
        for item in collection.search_items(place.attributes):
            kept = json.loads(item.get_secret())
            return AccessKey(str(kept["access_key"]), str(kept["secret_key"]))
    where = f"{place.bucket} at {place.endpoint_url or 'Amazon S3'}"
    raise AccessDenied(
        f"the keyring has no access key for store {place.store_id} ({where}); "
        f"`dmedia-transfer stores login {place.store_id}` asks for one"
    )


def save(place: Place, key: AccessKey) -> None:
    """Keep an access key for this place, instead of one that is there. A locked keyring asks for its password.

    Raises:
        CredentialsExpired: There is no keyring on the session bus, or it stays locked.
    """
    import secretstorage

    with _keyring(f"the access key of store {place.store_id}") as bus:
        collection = secretstorage.get_default_collection(bus)
        if collection.is_locked() and collection.unlock(timeout=UNLOCK_S):
            raise CredentialsExpired("the keyring stays locked: nobody gave its password")
        label = f"dmedia-transfer: {place.bucket} at {place.endpoint_url or 'Amazon S3'}"
        kept = json.dumps({"access_key": key.access_key, "secret_key": key.secret_key})
        collection.create_item(label, place.attributes, kept.encode(), replace=True, content_type="application/json")


def remove(store_id: str) -> bool:
    """Forget all access keys of a store; False if there is none.

    Raises:
        CredentialsExpired: There is no keyring on the session bus, or it stays locked.
    """
    import secretstorage

    with _keyring(f"the access key of store {store_id}") as bus:
        collection = secretstorage.get_any_collection(bus)
        if collection.is_locked() and collection.unlock(timeout=UNLOCK_S):
            raise CredentialsExpired("the keyring stays locked: nobody gave its password")
        items = list(collection.search_items({"application": APPLICATION, "store_id": store_id}))
        for item in items:
            item.delete()
        return bool(items)


@contextmanager
def _keyring(what: str) -> Iterator[Any]:
    """A connection to the keyring. What goes wrong is told by its kind only: a message could quote the secret."""
    import secretstorage

    bus: Any = None
    try:
        bus = secretstorage.dbus_init()
        yield bus
    except (CredentialsExpired, AccessDenied):
        raise
    except Exception as error:  # of four libraries one over the other, and of what is in the item
        raise CredentialsExpired(
            f"{what} cannot be had: there is no keyring (Secret Service) on the session bus, or it does not answer "
            f"({type(error).__name__})"
        ) from None
    finally:
        if bus is not None:
            bus.close()
