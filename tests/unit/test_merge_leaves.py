"""One machine document out of revisions in conflict."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import documents, merge
from dmedia_transfer.merge.identities import likely_identity
from dmedia_transfer.merge.ordering import in_one_order
from tests import factories

FILE_A, FILE_B, FILE_C = "A" * 48, "B" * 48, "C" * 48
BARE_A = f"download:{FILE_A}:"

Raw = dict[str, Any]


def entry(id: str, **fields: Any) -> Raw:
    """An entry with this `id`."""
    return {"id": id, "file_id": FILE_A, "priority": 0, "paused": False, **fields}


def leaf(revisions: str, *queue: Any, **facts: Any) -> Raw:
    """A leaf revision, named with what it descends from, newest first: `3-c 2-b 1-a`."""
    names = revisions.split()
    ids = [name.partition("-")[2] for name in names]
    start = int(names[0].partition("-")[0])
    return {
        **documents.new_machine(factories.MACHINE_ID, "tv", time=1.0),
        "_rev": names[0],
        "_revisions": {"start": start, "ids": ids},
        "queue": list(queue),
        **facts,
    }


class Owner:
    """The owning machine: revisions come into force, and are remembered."""

    def __init__(self) -> None:
        self.lineage = merge.Lineage()
        self.bodies: dict[str, Raw] = {}
        self.last: Raw | None = None
        self.tombstones: set[str] = set()

    def sees(self, raw: Raw) -> None:
        """This revision is in force."""
        self.lineage.view(raw["_rev"], merge.identities_in(raw))
        self.bodies[raw["_rev"]] = raw
        self.last = raw

    def merges(self, *leaves: Raw, bases: bool = True) -> merge.Merged:
        """What comes out, which must not depend on the order of the leaves."""
        outcomes = [
            merge.merge_leaves(
                order,
                lineage=self.lineage,
                tombstones=self.tombstones,
                bases=self.bodies if bases else {},
                last=self.last if bases else None,
            )
            for order in itertools.permutations(leaves)
        ]
        assert all(outcome == outcomes[0] for outcome in outcomes)
        assert all(list(outcome.raw) == list(outcomes[0].raw) for outcome in outcomes)
        return outcomes[0]


def ids(raw: Mapping[str, Any]) -> list[Any]:
    """The `id`s in a queue, or what is there instead."""
    return [each.get("id", each) if isinstance(each, dict) else each for each in raw["queue"]]


@pytest.fixture
def owner() -> Owner:
    """A machine that has seen the revision 2-b with entries a and b."""
    owner = Owner()
    owner.sees(leaf("2-b 1-a", entry("a"), entry("b")))
    return owner


# Which entries stay


def test_what_both_sides_added_is_there(owner: Owner) -> None:
    merged = owner.merges(
        leaf("3-x 2-b 1-a", entry("a"), entry("b"), entry("x")), leaf("3-y 2-b 1-a", entry("a"), entry("b"), entry("y"))
    )
    assert ids(merged.raw) == ["a", "b", "y", "x"]  # that of the greater revision first
    assert (merged.raw["_rev"], merged.losers, merged.changed) == ("3-y", ("3-x",), True)


def test_what_one_side_removed_is_gone_whatever_the_other_changed(owner: Owner) -> None:
    merged = owner.merges(leaf("3-x 2-b 1-a", entry("b")), leaf("4-y 3-q 2-b 1-a", entry("a", paused=True), entry("b")))
    assert ids(merged.raw) == ["b"]
    assert merged.removed == ("a",)


@pytest.mark.parametrize("bases", [True, False])
def test_a_revision_that_never_had_an_entry_does_not_remove_it(owner: Owner, bases: bool) -> None:
    owner.sees(leaf("3-x 2-b 1-a", entry("a"), entry("b"), entry("x")))
    merged = owner.merges(
        leaf("3-x 2-b 1-a", entry("a"), entry("b"), entry("x")),
        leaf("5-z 4-y 3-y 2-b 1-a", entry("a"), entry("b")),
        bases=bases,
    )
    assert ids(merged.raw) == ["a", "b", "x"]
    assert merged.removed == ()


def test_where_the_ancestry_is_not_known_the_entry_stays(owner: Owner) -> None:
    merged = owner.merges(leaf("9-p 8-p", entry("b")), leaf("3-x 2-b 1-a", entry("a"), entry("b")))
    assert ids(merged.raw) == ["a", "b"]


def test_an_old_entry_is_removed_though_the_revision_in_which_it_appeared_was_pruned(owner: Owner) -> None:
    owner.sees(leaf("2000-x 1999-x", entry("a"), entry("b")))
    merged = owner.merges(leaf("2001-y 2000-x 1999-x", entry("b")))
    assert ids(merged.raw) == ["b"]
    assert not merged.changed


def test_a_removal_is_known_by_the_branch_on_which_the_entry_was_first_seen(owner: Owner) -> None:
    ours, theirs = (
        leaf("4-x 3-x 2-b 1-a", entry("a"), entry("b")),
        leaf("3-y 2-b 1-a", entry("a"), entry("b"), entry("y")),
    )
    merged = owner.merges(ours, theirs)
    for each in merged.leaves:
        owner.lineage.branch(each["_rev"], merge.identities_in(each), merge.ancestry(each))
    now = {**merged.raw, "_rev": "5-m"}
    owner.sees(now)
    on_the_losing_branch = leaf("4-y 3-y 2-b 1-a", entry("a"), entry("b"))
    on_the_merged_one = leaf("6-n 5-m 4-x 3-x 2-b 1-a", entry("a"), entry("b"))
    still_there = leaf("5-m 4-x 3-x 2-b 1-a", *now["queue"])
    assert ids(owner.merges(on_the_losing_branch, still_there).raw) == ["a", "b"]
    assert ids(owner.merges(on_the_merged_one, theirs).raw) == ["a", "b"]


def test_what_has_a_tombstone_does_not_come_back(owner: Owner) -> None:
    owner.tombstones = {"a"}
    owner.sees(leaf("3-x 2-b 1-a", entry("b")))
    merged = owner.merges(
        leaf("3-x 2-b 1-a", entry("b")), leaf("5-z 4-y 3-y 2-b 1-a", entry("a", priority=100), entry("b"), FILE_C)
    )
    assert ids(merged.raw) == ["b", FILE_C]
    assert merged.changed


def test_an_entry_without_an_id_that_has_left_comes_back_only_on_purpose() -> None:
    owner = Owner()
    owner.sees(leaf("1-a", FILE_A))
    owner.sees(leaf("2-b 1-a"))
    old = leaf("3-x 2-x 1-a", FILE_A, FILE_B)
    assert owner.merges(leaf("2-b 1-a"), old).raw["queue"] == [FILE_B]
    anew = leaf("3-c 2-b 1-a", FILE_A)
    assert owner.merges(anew, old).raw["queue"] == [FILE_A, FILE_B]
    assert owner.merges(old).raw["queue"] == [FILE_B]  # a restored database


def test_a_database_that_was_restored_takes_nothing_away_and_nothing_back(owner: Owner) -> None:
    owner.sees(leaf("5-e 4-d 3-c 2-b 1-a", entry("a", paused=True), entry("x"), queue_paused=True))
    owner.tombstones = {"b"}
    merged = owner.merges(leaf("2-b 1-a", entry("a"), entry("b")))
    assert merged.raw["queue"] == [entry("a", paused=True), entry("x")]
    assert merged.raw["queue_paused"] is True
    assert (merged.raw["_rev"], merged.losers) == ("2-b", ())


def test_a_damaged_queue_removes_nothing(owner: Owner) -> None:
    for damage in ("oops", None, {"a": 1}, 7):
        merged = owner.merges(leaf("3-c 2-b 1-a") | {"queue": damage, "hostname": 7, "type": "x", "note": "y"})
        assert ids(merged.raw) == ["a", "b"]
        assert (merged.raw["hostname"], merged.raw["type"], merged.raw["note"]) == ("tv", documents.MACHINE, "y")
        documents.read_machine(merged.raw)
    without = leaf("3-c 2-b 1-a")
    del without["queue"]
    assert ids(owner.merges(without).raw) == ["a", "b"]
    assert ids(owner.merges(leaf("3-c 2-b 1-a") | {"queue": 7}, leaf("3-b 2-b 1-a", entry("b"))).raw) == ["b"]


def test_bad_entries_are_carried_through_and_not_doubled(owner: Owner) -> None:
    bad: list[Any] = [7, None, {"id": "q"}, {"id": "r", "file_id": "../x"}, ["a"], "no file"]
    merged = owner.merges(leaf("3-x 2-b 1-a", *bad[:4], entry("a")), leaf("3-y 2-b 1-a", *bad[2:], entry("a")))
    assert sorted(map(repr, merged.raw["queue"])) == sorted(map(repr, [*bad, entry("a")]))


def test_an_entry_that_somebody_spoiled_is_not_removed_by_that(owner: Owner) -> None:
    spoiled = entry("a", priority="high")
    merged = owner.merges(leaf("3-x 2-b 1-a", entry("a"), entry("b")), leaf("3-y 2-b 1-a", spoiled, entry("b")))
    assert {"a", "b"} == {each["id"] for each in merged.raw["queue"]}
    assert spoiled in merged.raw["queue"]
    assert entry("a") in merged.raw["queue"]


# Fields


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"paused": True}, {}, {"paused": True}),
        ({"priority": 10}, {"paused": True}, {"paused": True, "priority": 10}),
        ({"priority": 10}, {"priority": 100}, {"priority": 100}),
        ({"priority": -10}, {}, {"priority": -10}),
        ({"priority": -10}, {"priority": -5}, {"priority": -5}),
        ({"note": "x"}, {"note": "y"}, {"note": "y"}),
        ({"note": "x"}, {"priority": 1}, {"note": "x", "priority": 1}),
    ],
)
def test_a_change_wins_over_none_and_of_two_the_rule_decides(
    owner: Owner, ours: Raw, theirs: Raw, expected: Raw
) -> None:
    merged = owner.merges(leaf("3-x 2-b 1-a", entry("a", **ours)), leaf("3-y 2-b 1-a", entry("a", **theirs)))
    assert merged.raw["queue"] == [entry("a", **expected)]


def test_what_was_paused_is_resumed_by_one_side_that_says_so() -> None:
    owner = Owner()
    owner.sees(leaf("1-a", entry("a", paused=True), queue_paused=True))
    owner.sees(leaf("2-b 1-a", entry("a", paused=True), entry("b"), queue_paused=True))
    merged = owner.merges(
        leaf("2-b 1-a", entry("a", paused=True), entry("b"), queue_paused=True),
        leaf("2-a 1-a", entry("a"), queue_paused=False),
    )
    assert merged.raw["queue"] == [entry("a"), entry("b")]
    assert merged.raw["queue_paused"] is False


def test_where_no_base_is_known_paused_and_the_higher_priority_win(owner: Owner) -> None:
    merged = owner.merges(
        leaf("3-x 2-b 1-a", entry("a", paused=True, priority=-10), queue_paused=True),
        leaf("3-y 2-b 1-a", entry("a", note="n")),
        bases=False,
    )
    assert merged.raw["queue"] == [entry("a", paused=True, note="n")]
    assert merged.raw["queue_paused"] is True


def test_what_an_entry_asks_for_is_not_mixed(owner: Owner) -> None:
    upload = {"action": "upload", "store_id": factories.STORE_ID}
    merged = owner.merges(
        leaf("3-x 2-b 1-a", entry("a", **upload)), leaf("3-y 2-b 1-a", entry("a", file_id=FILE_B, priority=5))
    )
    assert merged.raw["queue"] == [entry("a", file_id=FILE_B, priority=5)]


def test_a_bare_string_stays_one_unless_it_was_changed() -> None:
    owner = Owner()
    owner.sees(leaf("1-a", FILE_A, FILE_B))
    paused = {"file_id": FILE_A, "paused": True}
    merged = owner.merges(leaf("2-x 1-a", FILE_A, FILE_B, FILE_C), leaf("2-y 1-a", paused, FILE_B))
    assert merged.raw["queue"] == [paused, FILE_B, FILE_C]


# Other keys


def test_other_keys_are_merged_one_by_one(owner: Owner) -> None:
    merged = owner.merges(
        leaf("3-x 2-b 1-a", hostname="tv2", stores={"S": {"a": 1}}, future=1),
        leaf("3-y 2-b 1-a", stores={"T": {}}, other=[2]),
    )
    assert merged.raw["hostname"] == "tv2"
    assert merged.raw["stores"] == {"S": {"a": 1}, "T": {}}
    assert (merged.raw["future"], merged.raw["other"]) == (1, [2])


def test_a_key_that_one_side_took_away_is_gone() -> None:
    owner = Owner()
    owner.sees(leaf("1-a", note="n"))
    assert "note" not in owner.merges(leaf("2-x 1-a"), leaf("2-y 1-a", note="n")).raw


def test_a_machine_that_was_forgotten_stays_forgotten(owner: Owner) -> None:
    owner.sees(leaf("3-c 2-b 1-a", forgotten=True))
    for other in (leaf("4-x 3-c 2-b 1-a", forgotten=False), leaf("4-x 3-c 2-b 1-a")):
        assert owner.merges(other, leaf("4-d 3-c 2-b 1-a", forgotten=True)).raw["forgotten"] is True


def test_certificates_are_united(owner: Owner) -> None:
    merged = owner.merges(
        leaf("3-x 2-b 1-a", peer={"certificates": ["one", "two"], "port": 1}),
        leaf("3-y 2-b 1-a", peer={"certificates": ["two", {"pem": "three"}], "addresses": ["h"]}),
    )
    assert merged.raw["peer"] == {
        "certificates": ["two", {"pem": "three"}, "one"],
        "addresses": ["h"],
        "port": 1,
    }


# Order


def test_a_default_that_one_side_spells_out_is_no_change_that_is_written_again_and_again() -> None:
    owner = Owner()
    owner.sees(leaf("1-t", {"id": "a", "file_id": FILE_A}))
    owner.sees(leaf("2-t 1-t", {"id": "a", "file_id": FILE_A}))
    others = leaf("1-q"), leaf("2-r 1-t", {"id": "a", "file_id": FILE_A, "paused": False})
    merged = owner.merges(leaf("3-p 2-p 1-p"), *others)
    written = leaf("4-m 3-p 2-p 1-p", *merged.raw["queue"])
    assert not owner.merges(written, *others).changed


def test_one_side_that_moved_something_decides_the_order(owner: Owner) -> None:
    merged = owner.merges(
        leaf("3-x 2-b 1-a", entry("b"), entry("a"), entry("x")), leaf("3-y 2-b 1-a", entry("a"), entry("b"), entry("y"))
    )
    assert ids(merged.raw) == ["b", "y", "a", "x"]


ORDERS = st.lists(st.integers(0, 12), unique=True, max_size=10)


@given(ORDERS, ORDERS)
def test_an_order_on_which_two_agree_is_kept(one: list[int], other: list[int]) -> None:
    other = [*sorted(set(one) & set(other), key=one.index), *(key for key in other if key not in one)]
    merged = in_one_order([one, other], [None, None], dict.fromkeys([*one, *other]))
    assert sorted(merged) == sorted({*one, *other})
    for order in (one, other):
        assert [key for key in merged if key in order] == order


@given(st.lists(ORDERS, min_size=1, max_size=4))
def test_every_key_is_there_once_whatever_the_orders(orders: list[list[int]]) -> None:
    keep = dict.fromkeys(key for order in orders for key in order)
    merged = in_one_order(orders, [None] * len(orders), keep)
    assert sorted(merged) == sorted(keep)
    assert in_one_order([merged, *orders], [None] * (len(orders) + 1), keep) == merged


# The laws, over random histories


ENTRIES = st.builds(
    lambda id, fields: {"id": id, "file_id": FILE_A, **fields},
    st.sampled_from("abcdef"),
    st.fixed_dictionaries(
        {},
        optional={
            "paused": st.booleans(),
            "priority": st.sampled_from([-10, 0, 10]),
            "note": st.sampled_from(["m", "n"]),
        },
    ),
)
QUEUES = st.lists(
    st.one_of(ENTRIES, st.sampled_from([FILE_A, FILE_B, 7, None, {"id": "a"}, {"id": "g", "file_id": 1}])),
    max_size=8,
    unique_by=lambda each: str(likely_identity(each) or each),
)
FACTS = st.fixed_dictionaries(
    {},
    optional={
        "hostname": st.sampled_from(["tv", "box", 7]),
        "queue_paused": st.booleans(),
        "forgotten": st.booleans(),
        "peer": st.sampled_from([{"certificates": ["a"]}, {"certificates": ["b", "a"], "x": 1}, 5]),
        "x-note": st.integers(0, 2),
        "queue": st.just("damaged"),
    },
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Owner, list[Raw]]:
    """A machine that has seen some revisions of a branch, and leaves that went their own ways from there."""
    owner = Owner()
    trunk = [f"{generation}-t" for generation in range(1, draw(st.integers(1, 4)) + 1)]
    for place in range(len(trunk)):
        if draw(st.booleans()):
            names = " ".join(reversed(trunk[: place + 1]))
            owner.sees(leaf(names, *draw(QUEUES)))
    owner.tombstones = draw(st.sets(st.sampled_from("abcdef"), max_size=2))
    leaves = []
    for letter in draw(st.lists(st.sampled_from("pqrs"), min_size=1, max_size=3, unique=True)):
        start = draw(st.integers(0, len(trunk)))
        own = [f"{generation}-{letter}" for generation in range(start + 1, start + 1 + draw(st.integers(1, 3)))]
        names = " ".join(reversed([*trunk[:start], *own]))
        leaves.append(leaf(names, *draw(QUEUES), **draw(FACTS)))
    return owner, leaves


@given(situations())
def test_the_order_of_the_leaves_does_not_matter(situation: tuple[Owner, list[Raw]]) -> None:
    owner, leaves = situation
    owner.merges(*leaves)  # which compares all orders


@given(situations())
def test_merging_the_merged_changes_nothing(situation: tuple[Owner, list[Raw]]) -> None:
    owner, leaves = situation
    merged = owner.merges(*leaves)
    generation = int(merged.raw["_rev"].partition("-")[0])
    winner = next(raw for raw in leaves if raw["_rev"] == merged.raw["_rev"])
    names = f"{generation + 1}-m {_names(winner)}"
    body = {key: value for key, value in merged.raw.items() if not key.startswith("_")}
    written = leaf(names, **body) if merged.changed else winner
    # Before the others are deleted, whether the machine remembers the merge or has lost power just then,
    again = owner.merges(written, *(raw for raw in leaves if raw is not winner))
    assert _plain(again.raw) == _plain(written)
    # and after that.
    for each in merged.leaves:
        owner.lineage.branch(each["_rev"], merge.identities_in(each), merge.ancestry(each))
    owner.tombstones |= {*merged.removed, *owner.lineage.in_force} - merge.identities_in(written)
    owner.sees(_plain(written) | {"_rev": written["_rev"]})
    assert not owner.merges(written).changed
    later = owner.merges(written, *(raw for raw in leaves if raw is not winner))
    assert _plain(later.raw) == _plain(written)


@given(situations())
def test_nothing_is_there_that_no_revision_had_and_what_all_have_stays(situation: tuple[Owner, list[Raw]]) -> None:
    owner, leaves = situation
    merged = merge.identities_in(owner.merges(*leaves).raw)
    there = [merge.identities_in(raw) for raw in [*leaves, *([owner.last] if owner.last else [])]]
    assert merged <= set().union(*there)
    speaking = [merge.identities_in(raw) for raw in leaves if isinstance(raw["queue"], list)]
    everywhere = set.intersection(*speaking) if speaking else set()
    left = {name for name in (BARE_A, f"download:{FILE_B}:") if owner.lineage.gone_at(name)}
    assert everywhere - owner.tombstones - left <= merged


def _names(raw: Raw) -> str:
    start, hashes = raw["_revisions"]["start"], raw["_revisions"]["ids"]
    return " ".join(f"{start - place}-{each}" for place, each in enumerate(hashes))


def _plain(raw: Mapping[str, Any]) -> Raw:
    return {key: value for key, value in raw.items() if not key.startswith("_")}


# Size


@pytest.mark.parametrize("differing", ["few", "one side of each"])
def test_ten_thousand_entries_merge(differing: str) -> None:
    queue = [entry(f"{number:024d}", time=1790000000.5, requested_by="phone") for number in range(10_000)]
    owner = Owner()
    owner.sees(leaf("1-a", *queue))
    ours = [dict(each) for each in queue[20:]]
    theirs = [dict(each, paused=differing != "few" or index < 20) for index, each in enumerate(queue[:-20])]
    leaves = [leaf("2-x 1-a", *ours), leaf("3-y 2-y 1-a", *theirs)]
    merged = merge.merge_leaves(leaves, lineage=owner.lineage, bases=owner.bodies, last=owner.last)
    assert len(merged.raw["queue"]) == 9_960
