"""SHA-256 of leaves: whatever hashes them says what OpenSSL says, alone and together with others."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.sha256 import INTERLEAVED, sha256

NEEDED = {"sha_ni", "avx", "sse4_1", "ssse3"}
# Around blocks of 64 bytes, the 16 KiB up to which a message is hashed alone, and the 64 KiB after which others join.
EDGES = [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 16_384, 16_385, 16_448, 16_503, 65_536, 65_600, 131_072, 131_135]


def expected(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def processor_can() -> bool:
    flags = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")]
    return bool(flags) and set(flags[0].split()) >= NEEDED


def test_where_the_processor_can_leaves_are_hashed_several_at_once() -> None:
    assert processor_can() == INTERLEAVED, "not built? A compiler, Python's headers, and once more: pip install -e ."


@pytest.mark.parametrize("size", EDGES)
def test_a_message_of_any_length_has_the_digest_that_openssl_finds(size: int) -> None:
    data = random.Random(size).randbytes(size)

    assert sha256(data) == expected(data)


@given(st.binary(max_size=400), st.integers(0, 100))
def test_bytes_from_anywhere_in_a_buffer_have_the_digest_that_openssl_finds(data: bytes, start: int) -> None:
    view = memoryview(bytearray(data))[start:]

    assert sha256(view) == expected(view)


@given(sizes=st.lists(st.integers(0, 400_000) | st.sampled_from(EDGES), min_size=2, max_size=24))
def test_messages_that_are_hashed_at_the_same_time_do_not_mix(sizes: list[int]) -> None:
    source = random.Random(len(sizes)).randbytes(400_000 + len(sizes))
    messages = [memoryview(source)[i : i + size] for i, size in enumerate(sizes)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(sha256, messages))

    assert found == [expected(each) for each in messages]


def test_threads_that_come_and_go_all_get_their_own_digest() -> None:
    leaves = [random.Random(i).randbytes(size) for i, size in enumerate([3_000_000, 20_000, 1_000_000, 500_000, 64, 0])]
    digests = [expected(each) for each in leaves]

    def hash_again_and_again(first: int) -> bool:
        return all(sha256(leaves[i % 6]) == digests[i % 6] for i in range(first, first + 60))

    with ThreadPoolExecutor(7) as threads:
        assert all(threads.map(hash_again_and_again, range(7)))


def test_what_is_no_buffer_of_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="str"):
        sha256("text")  # type: ignore[arg-type]


def test_without_what_was_built_openssl_hashes() -> None:
    program = (
        "import sys; sys.modules['dmedia_transfer._lanes'] = None\n"
        "from dmedia_transfer import leaves, sha256\n"
        "print(sha256.INTERLEAVED, leaves.leaf_digest(b'a').hex())"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert told.split() == ["False", expected(b"a").hex()]


def test_what_was_built_wrong_is_not_used() -> None:
    program = (
        "import types, dmedia_transfer\n"
        "dmedia_transfer._lanes = types.SimpleNamespace(sha256=lambda data: bytes(32))\n"
        "from dmedia_transfer import sha256\n"
        "print(sha256.INTERLEAVED, sha256.sha256(b'a').hex())"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert told.split() == ["False", expected(b"a").hex()]
