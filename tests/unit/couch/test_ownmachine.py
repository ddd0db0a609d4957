"""This machine's own document, over a database in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import faults
from dmedia_transfer.couch.machinememory import MachineMemory
from dmedia_transfer.couch.ownmachine import OwnMachine
from dmedia_transfer.errors import Conflict
from dmedia_transfer.journal import Journal
from dmedia_transfer.model import AddEntry, ChangeEntries, Entry
from tests.factories import MACHINE_ID
from tests.replicas import Raw, Replica

FILE = "A" * 48


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new journal."""
    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


@pytest.fixture
def tv() -> Replica:
    """The machine's database."""
    return Replica(MACHINE_ID)


def started(tv: Replica, journal: Journal) -> OwnMachine:
    """As the daemon has it after a start."""
    own = OwnMachine(tv, MACHINE_ID, "tv", MachineMemory(journal.lineage, journal.ledger, journal.bases))
    kept = journal.bases.load(MACHINE_ID)
    if kept:
        own.recall(kept[1])
    return own


def copy_of(replica: Replica) -> Replica:
    """Another device that has replicated."""
    other = Replica(MACHINE_ID)
    other.pull(replica)
    return other


def edited(replica: Replica, **changes: Any) -> Raw:
    """Another device edits the document."""
    raw = {**(replica.get(MACHINE_ID) or {}), **changes}
    return {**raw, "_rev": replica.put(raw)}


def ids(raw: Raw) -> list[str]:
    return [entry["id"] for entry in raw["queue"]]


def test_what_a_merge_compares_with_is_there_after_a_crash_and_a_compaction(
    tv: Replica, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = started(tv, journal)
    own.edit([AddEntry(Entry(FILE, id="a", paused=True))])
    phone, laptop = copy_of(tv), copy_of(tv)
    edited(phone, note="n")
    for paused in (True, False):
        edited(laptop, queue=[{"id": "a", "file_id": FILE, "paused": paused}])
    tv.pull(phone)
    tv.pull(laptop)

    def crash(name: str) -> None:
        if name == "machine.written":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faults, "point", crash)
        with pytest.raises(KeyboardInterrupt):
            own.edit([])
    tv.compact()
    after = started(tv, journal).edit([])
    assert after["note"] == "n"
    assert after["queue"][0]["paused"] is False  # somebody has resumed it, and nobody has paused it since


def test_a_revision_that_was_only_edited_over_was_seen_too(tv: Replica, journal: Journal) -> None:
    own = started(tv, journal)
    own.edit([])
    phone = copy_of(tv)
    added = edited(phone, queue=[{"id": "e", "file_id": FILE}])
    tv.pull(phone)
    own.edit([AddEntry(Entry(FILE, id="ours"))])
    edited(phone, queue=[], _rev=added["_rev"])
    tv.pull(phone)
    assert ids(own.edit([])) == ["ours"]


def test_a_revision_without_what_the_one_before_has_added_is_looked_into(tv: Replica, journal: Journal) -> None:
    own = started(tv, journal)
    first = own.edit([])
    added = {**first, "_rev": "2-x", "queue": [{"id": "e", "file_id": FILE}]}
    assert own.remember(added)
    assert not own.remember({**first, "_rev": "3-y"})  # though nobody has taken note of the one before
    assert own.remember({**added, "_rev": "3-y"})


def test_a_document_that_changes_all_the_time_is_given_up(tv: Replica, journal: Journal) -> None:
    class Busy(Replica):
        def get(self, document_id: str, *, conflicts: bool = False) -> Raw | None:
            raw = super().get(document_id, conflicts=conflicts)
            if raw is not None:
                self.put({**raw, "count": raw.get("count", 0) + 1})
            return raw

    busy = Busy(MACHINE_ID)
    own = started(busy, journal)
    own.edit([])
    with pytest.raises(Conflict, match="10 times"):
        own.edit([ChangeEntries(("x",), paused=True), AddEntry(Entry(FILE, id="e"))])


def test_many_revisions_of_a_long_queue_share_their_entries(tv: Replica, journal: Journal) -> None:
    own = started(tv, journal)
    own.edit([AddEntry(Entry(FILE, id=f"e{number}")) for number in range(100)])
    phone = copy_of(tv)
    for count in range(3):
        edited(phone, note=count)
        tv.pull(phone)
        own.edit([])
    bodies = list(own._bodies.values())
    assert len({id(entry) for body in bodies for entry in body["queue"]}) == 100


SAYS = {"certificates": ["MIIB"], "addresses": ["192.0.2.7:5987"]}


def test_what_we_say_of_ourselves_is_written_once_and_leaves_other_keys_alone(tv: Replica, journal: Journal) -> None:
    own = started(tv, journal)
    own.edit([AddEntry(Entry(FILE, id="a"))])
    edited(tv, peer={"colour": "red"})
    own.say_of_peer(SAYS)
    raw = own.edit([])
    assert raw["peer"] == {"colour": "red", **SAYS}
    assert ids(raw) == ["a"]
    assert own.edit([])["_rev"] == raw["_rev"]


def test_who_changes_what_we_say_of_ourselves_is_corrected(tv: Replica, journal: Journal) -> None:
    own = started(tv, journal)
    own.say_of_peer(SAYS)
    own.edit([])
    raw = edited(tv, peer={**SAYS, "addresses": ["203.0.113.66:1"]})
    assert not own.remember(raw)
    settled = own.settle()
    assert settled is not None
    assert settled["peer"] == SAYS
    assert own.remember(edited(tv, note="n"))


def test_what_we_say_survives_a_conflict_and_certificates_of_old_do_not_come_back(
    tv: Replica, journal: Journal
) -> None:
    own = started(tv, journal)
    own.say_of_peer({**SAYS, "certificates": ["OLD"]})
    own.edit([])
    phone = copy_of(tv)
    for _ in range(3):  # a longer branch wins
        edited(phone, note="n")
    own.say_of_peer(SAYS)
    own.edit([])
    tv.pull(phone)
    raw = own.edit([])
    assert raw["peer"] == SAYS
    assert raw["note"] == "n"


def test_a_machine_that_has_nothing_to_say_begins_no_section_and_empties_one_that_is_there(
    tv: Replica, journal: Journal
) -> None:
    own = started(tv, journal)
    own.say_of_peer({"certificates": [], "addresses": []})
    assert "peer" not in own.edit([])
    assert own.remember(edited(tv, note="n"))
    assert not own.remember(edited(tv, peer=SAYS))
    assert own.edit([])["peer"] == {"certificates": [], "addresses": []}
