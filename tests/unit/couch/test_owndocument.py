"""A document that only this machine writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dmedia_transfer.couch.owndocument import OwnDocument
from dmedia_transfer.errors import Conflict, DatabaseUnavailable


class FakeDatabase:
    """One document, and a server that can be away."""

    def __init__(self) -> None:
        self.raw: dict[str, Any] | None = None
        self.away = False
        self.puts: list[int] = []

    def get(self, document_id: str) -> dict[str, Any] | None:
        return self.raw

    def put(self, raw: Mapping[str, Any]) -> str:
        if self.away:
            raise DatabaseUnavailable("away")
        if (self.raw or {}).get("_rev") != raw.get("_rev"):
            raise Conflict("409")
        number = int((self.raw or {"_rev": "0"})["_rev"]) + 1
        self.raw = {**raw, "_rev": str(number)}
        self.puts.append(raw["n"])
        return str(number)


def test_bodies_are_written_one_over_the_other() -> None:
    database = FakeDatabase()
    document = OwnDocument(database)
    for number in range(3):
        document.set({"_id": "x", "n": number})
        document.write()
    document.write()
    assert database.puts == [0, 1, 2]


def test_only_the_newest_of_those_that_waited_is_written() -> None:
    database = FakeDatabase()
    document = OwnDocument(database)
    database.away = True
    for number in range(3):
        document.set({"_id": "x", "n": number})
        with pytest.raises(DatabaseUnavailable):
            document.write()
    database.away = False
    document.write()
    assert database.puts == [2]


@pytest.mark.parametrize("there", [{"_id": "x", "_rev": "7", "n": -1}, None])
def test_a_body_of_an_earlier_life_or_a_restored_database_is_written_over(there: dict[str, Any] | None) -> None:
    database = FakeDatabase()
    document = OwnDocument(database)
    document.set({"_id": "x", "n": 0})
    document.write()
    database.raw = there
    document.set({"_id": "x", "n": 1})
    document.write()
    assert database.raw is not None
    assert database.raw["n"] == 1
