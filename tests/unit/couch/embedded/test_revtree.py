"""Revision trees: merging is order-free, the winner is CouchDB's, stemming forgets only what is old."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.couch.embedded.revtree import Rev, RevTree

IDS = "abc"


@st.composite
def paths(draw: st.DrawFn) -> RevTree:
    """One branch, as `_revisions` brings it: names from a small set, so that branches meet and contradict."""
    length = draw(st.integers(1, 6))
    start = draw(st.integers(length, 8))
    revs = [Rev(start - index, draw(st.sampled_from(IDS))) for index in range(length)]
    return RevTree.path(revs, deleted=draw(st.booleans()))


trees = st.lists(paths(), max_size=5).map(lambda found: reduce(RevTree.merge, found, RevTree()))


def chain(*names: str, deleted: bool = False) -> RevTree:
    return RevTree.path([Rev.parse(name) for name in names], deleted=deleted)


@given(trees, trees)
def test_merging_does_not_depend_on_the_order(one: RevTree, other: RevTree) -> None:
    assert one.merge(other) == other.merge(one)


@given(trees, trees, trees)
def test_merging_does_not_depend_on_the_grouping(one: RevTree, two: RevTree, three: RevTree) -> None:
    assert one.merge(two).merge(three) == one.merge(two.merge(three))


@given(trees)
def test_merging_a_tree_with_itself_changes_nothing(tree: RevTree) -> None:
    assert tree.merge(tree) == tree
    assert tree.merge(RevTree()) == tree


@given(st.lists(paths(), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_all_replicas_agree_on_the_winner(found: list[RevTree], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = reduce(RevTree.merge, found), reduce(RevTree.merge, shuffled)
    assert one.winner == other.winner
    assert one.leaves == other.leaves


@given(trees.filter(len))
def test_the_winner_is_alive_if_any_leaf_is_then_longest_then_greatest(tree: RevTree) -> None:
    def rank(rev: Rev) -> tuple[bool, int, str]:
        return (not tree.is_deleted(rev), rev.pos, rev.id)

    assert rank(tree.winner) == max(map(rank, tree.leaves))


@given(trees)
def test_a_leaf_is_nobodys_parent_and_everything_else_is_somebodys(tree: RevTree) -> None:
    inner = {above for rev in tree for above in tree.ancestors(rev)}
    assert set(tree.leaves) == set(tree) - inner


@given(trees)
def test_a_tree_survives_being_written_and_read(tree: RevTree) -> None:
    assert RevTree.loads(tree.dumps()) == tree


@given(trees.filter(len), st.integers(1, 5))
def test_stemming_keeps_leaves_and_winner_and_is_idempotent(tree: RevTree, limit: int) -> None:
    stemmed = tree.stem(limit)
    assert stemmed.leaves == tree.leaves
    assert set(stemmed) <= set(tree)
    assert stemmed.stem(limit) == stemmed
    oldest = min(leaf.pos for leaf in tree.leaves) - limit
    assert all(rev.pos > oldest for rev in stemmed)


@given(trees.filter(len), st.integers(1, 5))
def test_stemming_keeps_the_newest_of_every_branch(tree: RevTree, limit: int) -> None:
    stemmed = tree.stem(limit)
    for leaf in tree.leaves:
        assert stemmed.history(leaf)[:limit] == tree.history(leaf)[:limit]


@given(trees.filter(len), st.integers(1, 5))
def test_what_was_stemmed_can_be_merged_again(tree: RevTree, limit: int) -> None:
    assert tree.stem(limit).merge(tree) == tree


@given(trees.filter(len))
def test_the_latest_of_a_revision_are_the_leaves_below_it(tree: RevTree) -> None:
    for rev in tree:
        latest = tree.latest(rev)
        assert latest
        assert all(leaf == rev or rev in tree.ancestors(leaf) for leaf in latest)
        assert set(latest) <= set(tree.leaves)


def test_a_long_history_is_stemmed_to_its_newest() -> None:
    revs = [Rev(pos, f"h{pos}") for pos in range(5000, 0, -1)]
    assert RevTree.path(revs).stem(1000).history(revs[0]) == revs[:1000]


def test_the_parent_of_the_oldest_that_is_left_comes_back_as_no_leaf() -> None:
    tree = chain("3-c", "2-b", "1-a")
    stemmed = tree.stem(2)
    assert Rev(1, "a") not in stemmed
    again = stemmed.merge(chain("1-a"))
    assert again == tree
    assert [str(leaf) for leaf in again.leaves] == ["3-c"]


def test_a_deletion_loses_to_a_shorter_branch_that_lives() -> None:
    tree = chain("3-z", "2-z", "1-a", deleted=True).merge(chain("2-b", "1-a"))
    assert str(tree.winner) == "2-b"


def test_of_two_equally_long_branches_the_greater_hash_wins() -> None:
    tree = chain("2-b", "1-a").merge(chain("2-c", "1-a"))
    assert [str(leaf) for leaf in tree.leaves] == ["2-c", "2-b"]


def test_of_deletions_only_the_longest_wins() -> None:
    tree = chain("3-a", "2-a", "1-a", deleted=True).merge(chain("2-z", "1-a", deleted=True))
    assert str(tree.winner) == "3-a"


def test_a_branch_that_arrives_without_its_root_joins_when_the_root_arrives() -> None:
    tree = chain("3-c", "2-b").merge(chain("1-a"))
    assert len(tree.leaves) == 2
    joined = tree.merge(chain("2-b", "1-a"))
    assert [str(rev) for rev in joined.history(Rev(3, "c"))] == ["3-c", "2-b", "1-a"]
    assert len(joined.leaves) == 1


@pytest.mark.parametrize("text", ["", "1", "0-a", "-1-a", "1-", "a-1", "1-a b", '1-"', "01-a", "1-a\n", "1-é", None, 1])
def test_what_is_no_revision_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not the name of a revision"):
        Rev.parse(text)
