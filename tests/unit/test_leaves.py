"""Leaf and part arithmetic, leaf digests and file IDs, against values made by hand."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import leaves
from dmedia_transfer.errors import InvalidInput
from dmedia_transfer.leaves import DIGEST_BYTES, LEAF_BYTES
from tests import factories

EIGHT_MIB = 8_388_608
TIB = 1024**4
SIZES = st.one_of(
    st.integers(1, 5 * TIB),
    st.builds(lambda count, off: max(1, count * EIGHT_MIB + off), st.integers(0, 11_000), st.integers(-2, 2)),
)
SMALL_SIZES = st.one_of(
    st.integers(1, 2000 * EIGHT_MIB),
    st.builds(lambda count, off: max(1, count * EIGHT_MIB + off), st.integers(0, 2000), st.integers(-2, 2)),
)

# Made with sha256sum and base32, not with this package; docs/documents.md gives them, too.
VECTORS = [
    pytest.param(b"a", "X5OTV75XH36S5RWDNLJRCLOZGPX62Y6E4HF77T5IRYTVTQKE", id="one byte"),
    pytest.param(bytes(EIGHT_MIB), "GCFQMKMPWKJKG6AI7D3YAYNO4BV7JXG6ZZMKLKNRTKCH7Y5L", id="one full leaf"),
    pytest.param(bytes(EIGHT_MIB + 1), "MOXSLAX3Z6ZNTG5Z4ZDTKXB7LDIQQEL5CDDS2NN7ERA775XT", id="a leaf and a byte"),
    pytest.param(
        bytes(range(256)) * (2 * EIGHT_MIB // 256) + b"end",
        "ISHHO4YYKQNGLORHUOPFI3P5U4SES2BFJYUD7CFYEIVPNT7M",
        id="two leaves and three bytes",
    ),
]


def by_hand(data: bytes) -> str:
    digests = [hashlib.sha256(data[at : at + 8_388_608]).digest() for at in range(0, len(data), 8_388_608)]
    return base64.b32encode(hashlib.sha256(b"".join(digests)).digest()[:30]).decode()


@pytest.mark.parametrize(("data", "file_id"), VECTORS)
def test_known_files_have_known_ids(data: bytes, file_id: str) -> None:
    digests = b"".join(hashlib.sha256(data[at : at + EIGHT_MIB]).digest() for at in range(0, len(data), EIGHT_MIB))
    assert leaves.file_id(digests) == file_id == by_hand(data)
    assert factories.leaf_digests_of(data) == digests
    assert leaves.is_file_id(file_id)
    leaves.check_leaf_digests(file_id, len(data), digests)


@given(digests=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_a_file_id_is_48_safe_characters_of_the_composite_checksum(digests: list[bytes]) -> None:
    packed = b"".join(digests)
    file_id = leaves.file_id(packed)
    assert leaves.is_file_id(file_id)
    # S3's composite checksum is the SHA-256 of its parts' SHA-256, in order: with a leaf in each part, our digest.
    composite = hashlib.sha256(b"".join(digests)).digest()
    assert leaves.file_digest(packed) == composite
    assert base64.b32decode(file_id) == composite[:30]
    assert list(leaves.unpack(packed)) == digests
    assert [leaves.digest_of_leaf(packed, index) for index in range(len(digests))] == digests
    for index in (-1, len(digests)):
        with pytest.raises(InvalidInput, match=f"none of number {index}"):
            leaves.digest_of_leaf(packed, index)


@given(file_bytes=SMALL_SIZES)
def test_leaves_cover_the_file_exactly(file_bytes: int) -> None:
    spans = [leaves.leaf_span(file_bytes, index) for index in range(leaves.leaf_count(file_bytes))]
    assert [span.index for span in spans] == list(range(len(spans)))
    assert [span.start for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert spans[-1].end == file_bytes
    assert all(span.size == EIGHT_MIB for span in spans[:-1])
    assert 1 <= spans[-1].size <= EIGHT_MIB


@given(file_bytes=SMALL_SIZES, part_leaves=st.sampled_from([1, 2, 4, 8, 64]))
def test_parts_cover_the_file_exactly_and_consist_of_whole_leaves(file_bytes: int, part_leaves: int) -> None:
    parts = leaves.part_spans(file_bytes, part_leaves)
    assert [part.index for part in parts] == list(range(len(parts)))
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == file_bytes
    assert all(part.size == part_leaves * EIGHT_MIB for part in parts[:-1])
    assert 1 <= parts[-1].size <= part_leaves * EIGHT_MIB
    assert all(part.start % EIGHT_MIB == 0 for part in parts)


def test_with_one_leaf_in_each_part_the_parts_are_the_leaves() -> None:
    file_bytes = 3 * EIGHT_MIB + 1
    assert leaves.part_spans(file_bytes, 1) == [leaves.leaf_span(file_bytes, index) for index in range(4)]


@given(file_bytes=SIZES, max_parts=st.integers(1, 20_000))
def test_parts_are_the_smallest_power_of_two_of_leaves_that_fits(file_bytes: int, max_parts: int) -> None:
    each = leaves.leaves_per_part(file_bytes, max_parts=max_parts)
    assert each.bit_count() == 1
    count = leaves.leaf_count(file_bytes)
    assert (count + each - 1) // each <= max_parts
    assert each == 1 or (count + each // 2 - 1) // (each // 2) > max_parts


def test_s3s_limit_of_parts_is_met_by_the_largest_object() -> None:
    assert leaves.leaves_per_part(10_000 * EIGHT_MIB, max_parts=10_000) == 1
    assert leaves.leaves_per_part(10_000 * EIGHT_MIB + 1, max_parts=10_000) == 2
    each = leaves.leaves_per_part(5 * TIB, max_parts=10_000)
    assert each * EIGHT_MIB <= 5 * 1024**3, "S3 takes parts of up to 5 GiB"


@pytest.mark.parametrize("file_bytes", [0, -1, -EIGHT_MIB])
def test_an_empty_file_has_no_leaves_and_no_parts(file_bytes: int) -> None:
    with pytest.raises(InvalidInput, match=f"at least one byte, not {file_bytes}"):
        leaves.leaf_count(file_bytes)
    with pytest.raises(InvalidInput, match=f"{file_bytes} bytes"):
        leaves.part_spans(file_bytes, 1)


def test_parts_of_no_leaves_are_refused_and_so_is_no_part() -> None:
    with pytest.raises(InvalidInput, match="parts of 0 leaves"):
        leaves.part_spans(1, 0)
    with pytest.raises(InvalidInput, match="at least one part, not 0"):
        leaves.leaves_per_part(1, max_parts=0)


@pytest.mark.parametrize("index", [-1, 2, 10**9])
def test_a_leaf_beyond_the_file_is_refused(index: int) -> None:
    with pytest.raises(InvalidInput, match=f"leaf {index} is not in a file of {EIGHT_MIB + 1} bytes"):
        leaves.leaf_span(EIGHT_MIB + 1, index)


@pytest.mark.parametrize("packed", [b"", b"x" * 31, b"x" * 33])
def test_packed_digests_are_whole(packed: bytes) -> None:
    with pytest.raises(InvalidInput, match="multiple of 32"):
        leaves.file_digest(packed)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_leaf_is_hashed_in_whatever_buffer_it_lies(kind: type) -> None:
    assert leaves.leaf_digest(kind(b"leaf")) == hashlib.sha256(b"leaf").digest()


def test_digests_of_another_file_are_refused_and_named() -> None:
    file = factories.file_spec(b"one")
    other = factories.file_spec(b"two")
    with pytest.raises(InvalidInput, match=f"those of file {other.file_id}"):
        leaves.check_leaf_digests(file.file_id, 3, other.leaf_digests)


@pytest.mark.parametrize("file_bytes", [EIGHT_MIB + 1, 3 * EIGHT_MIB])
def test_digests_for_another_number_of_leaves_are_refused(file_bytes: int) -> None:
    file = factories.file_spec(b"one")
    with pytest.raises(InvalidInput, match="32 bytes of leaf digests, but a file of"):
        leaves.check_leaf_digests(file.file_id, file_bytes, file.leaf_digests)


def test_a_list_of_digests_does_not_pass_for_the_file() -> None:
    whole = factories.content(2 * EIGHT_MIB)
    digests = factories.leaf_digests_of(whole)
    assert factories.file_spec(digests).file_id != leaves.file_id(digests)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A" * 47,
        "A" * 49,
        "a" * 48,
        "A" * 47 + "1",
        "A" * 47 + "=",
        "../" + "A" * 45,
        "A" * 48 + "\n",
        "\n" + "A" * 47,
        "\u0391" * 48,
        None,
        5,
        b"A" * 48,
        ["A"] * 48,
    ],
)
def test_what_is_no_file_id_is_not_taken_for_one(text: object) -> None:
    assert not leaves.is_file_id(text)
    assert not leaves.is_random_id(text)


def test_a_random_id_is_24_characters() -> None:
    assert leaves.is_random_id("A" * 24)
    assert not leaves.is_random_id("A" * 48)
    assert not leaves.is_random_id("A" * 24 + "\n")
    assert not leaves.is_file_id("A" * 24)


# What a server says of an object


def proven(
    data: bytes, *, size: int | None = None, sha256: bytes | None = None, composite: bytes | None = None
) -> bool:
    return leaves.object_is_file(
        file_bytes=len(data),
        leaf_digests=factories.leaf_digests_of(data),
        object_bytes=len(data) if size is None else size,
        object_sha256=sha256,
        object_composite_sha256=composite,
    )


ONE, TWO = factories.content(1000), factories.content(EIGHT_MIB + 1000)


def composite_of(data: bytes, part_bytes: int) -> bytes:
    parts = [hashlib.sha256(data[at : at + part_bytes]).digest() for at in range(0, len(data), part_bytes)]
    return hashlib.sha256(b"".join(parts)).digest()


def test_one_leaf_sent_by_one_put_is_proven_by_the_objects_sha256() -> None:
    assert proven(ONE, sha256=hashlib.sha256(ONE).digest())
    assert not proven(ONE, sha256=hashlib.sha256(b"other").digest())
    assert not proven(ONE, size=999, sha256=hashlib.sha256(ONE).digest())


@pytest.mark.parametrize("data", [ONE, TWO])
def test_a_leaf_in_each_part_is_proven_by_the_composite(data: bytes) -> None:
    assert proven(data, composite=composite_of(data, EIGHT_MIB))
    assert not proven(data, composite=composite_of(data[:-1] + b"!", EIGHT_MIB))
    assert not proven(data, size=len(data) + 1, composite=composite_of(data, EIGHT_MIB))


def test_other_parts_prove_nothing() -> None:
    assert not proven(TWO, composite=composite_of(TWO, 2 * EIGHT_MIB))
    assert not proven(TWO, composite=composite_of(TWO, EIGHT_MIB // 2))


def test_the_sha256_of_several_leaves_proves_nothing() -> None:
    assert not proven(TWO, sha256=hashlib.sha256(TWO).digest())
    assert proven(TWO, sha256=hashlib.sha256(TWO).digest(), composite=composite_of(TWO, EIGHT_MIB)), "nor disproves"


@pytest.mark.parametrize("data", [ONE, TWO])
def test_a_size_alone_proves_nothing(data: bytes) -> None:
    assert not proven(data)


def test_a_digest_of_a_leaf_is_no_digest_of_a_file_of_one_leaf() -> None:
    leaf = hashlib.sha256(ONE).digest()
    assert not proven(ONE, sha256=hashlib.sha256(leaf).digest())
    assert not proven(ONE, composite=leaf)


def test_the_numbers_are_those_of_the_format() -> None:
    assert (LEAF_BYTES, DIGEST_BYTES, leaves.FILE_ID_BITS, leaves.FILE_ID_LENGTH) == (EIGHT_MIB, 32, 240, 48)
