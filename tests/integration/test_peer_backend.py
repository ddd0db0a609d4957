"""The backend for peers over a real server: how it finds the machine, what it takes from it, what it leaves there."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import leaves
from dmedia_transfer.backends import create
from dmedia_transfer.backends.peer import PeerBackend
from dmedia_transfer.errors import (
    AccessDenied,
    ConnectionLost,
    LeafMissing,
    ObjectMissing,
    ServerBusy,
    Transient,
    UploadGone,
)
from dmedia_transfer.model import Direction, FileSpec, TransferKey
from dmedia_transfer.peers import identity
from tests import factories
from tests.factories import BytesBody
from tests.integration.test_peer_uploads import left_behind
from tests.peers import NOW, Machine, make_machine
from tests.peerserver import Host, eventually

LEAF = leaves.LEAF_BYTES
DATA = factories.content(2 * LEAF + 1000, seed=11)
Make = Callable[..., PeerBackend]


def unmetered(_count: int) -> None:
    pass


def fetched(backend: PeerBackend, file: FileSpec, index: int) -> bytes:
    span = leaves.leaf_span(file.size, index)
    buffer = bytearray(span.size)
    backend.fetch(file, span.start, memoryview(buffer), unmetered)
    return bytes(buffer)


def leaf_of(index: int) -> bytes:
    return DATA[index * LEAF : (index + 1) * LEAF]


@pytest.fixture
def make(host: Host, phone: Machine) -> Iterator[Make]:
    """Backends of the phone for the host."""
    with ExitStack() as stack:

        def made(sender: Machine | None = None, *, stall_s: float = 10.0, **settings: Any) -> PeerBackend:
            backend = create(host.spec(sender or phone, **settings), stall_s=stall_s, connections=4)
            assert isinstance(backend, PeerBackend)
            stack.callback(backend.close)
            return backend

        yield made


@pytest.fixture
def backend(make: Make) -> PeerBackend:
    return make()


def silent(stack: ExitStack) -> str:
    """An address where connections are taken and nothing is ever said."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return f"127.0.0.1:{listener.getsockname()[1]}"


def closed() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


# Where it is.


def test_the_address_that_answers_and_proves_who_it_is_is_used_and_tried_first_next_time(
    host: Host, make: Make, tmp_path: Path
) -> None:
    file = host.publish(DATA)
    real = f"127.0.0.1:{host.port}"
    with ExitStack() as stack:
        mute = silent(stack)
        backend = make(addresses=[closed(), "name.invalid:1", real])
        assert fetched(backend, file, 2) == leaf_of(2)
        again = make(addresses=[mute, real], stall_s=60.0)
        began = time.monotonic()
        assert fetched(again, file, 2) == leaf_of(2)
        assert time.monotonic() - began < 8  # the other would have been waited for


def test_a_silent_address_holds_up_nobody_for_long(host: Host, make: Make) -> None:
    file = host.publish(DATA)
    # Nobody answers there: 192.0.2.0/24 is for documentation.
    backend = make(addresses=["192.0.2.1:8443", f"127.0.0.1:{host.port}"])
    assert fetched(backend, file, 2) == leaf_of(2)


def test_a_stranger_at_an_address_is_passed_over(host: Host, make: Make, phone: Machine, tmp_path: Path) -> None:
    file = host.publish(DATA)
    stranger = Host(tmp_path / "stranger", ("http://u:p@127.0.0.1:9", "none"))
    try:
        stranger.see(phone.document())
        stranger.start()
        backend = make(addresses=[f"127.0.0.1:{stranger.port}", f"127.0.0.1:{host.port}"])
        assert fetched(backend, file, 2) == leaf_of(2)
        alone = make(addresses=[f"127.0.0.1:{stranger.port}"])
        with pytest.raises(ConnectionLost, match=f"{host.machine.id} .*its certificate is not in this library"):
            alone.stat(file)
    finally:
        stranger.close()


def test_ipv6_works(host: Host, make: Make, tmp_path: Path, phone: Machine) -> None:
    six = Host(tmp_path / "six", ("http://u:p@127.0.0.1:9", "none"))
    six.setup = six.setup.model_copy(update={"host": "::1"})
    try:
        six.see(phone.document())
        six.start()
        file = six.publish(b"six")
        backend = create(six.spec(phone, addresses=[f"[::1]:{six.port}"]), stall_s=10.0, connections=1)
        assert backend.stat(file) is not None
        backend.close()
    finally:
        six.close()


def test_a_machine_that_is_nowhere_is_named_with_all_that_was_tried(make: Make, host: Host) -> None:
    file = factories.file_spec(DATA)
    first, second = closed(), closed()
    with pytest.raises(ConnectionLost) as caught:
        make(addresses=[first, second]).stat(file)
    for part in (host.machine.id, first, second, "Connection refused", file.file_id):
        assert part in str(caught.value)
    with pytest.raises(ConnectionLost, match="has no address"):
        make(addresses=[]).stat(file)


def test_a_cut_ends_the_search_at_once(make: Make) -> None:
    with ExitStack() as stack:
        backend = make(addresses=[silent(stack)], stall_s=60.0)
        threading.Timer(0.5, backend.cut).start()
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="was cut"):
            backend.stat(factories.file_spec(DATA))
        assert time.monotonic() - began < 8


# Who is trusted.


def test_a_machine_that_is_not_in_the_library_is_told_so_and_may_come_in_later(
    host: Host, make: Make, tmp_path: Path
) -> None:
    laptop = make_machine(tmp_path / "laptop")
    backend, file = make(laptop), host.publish(DATA)
    with pytest.raises(Transient, match="it does not know our certificate"):
        backend.stat(file)
    host.see(laptop.document())

    def is_let_in() -> bool:
        try:
            return backend.stat(file) is not None
        except Transient:
            return False

    eventually(is_let_in)


def test_an_expired_certificate_is_told_on_both_sides(host: Host, make: Make, tmp_path: Path) -> None:
    old = make_machine(tmp_path / "old", now=NOW - timedelta(days=1000))
    file = factories.file_spec(DATA)
    host.see(old.document())
    told: list[str] = []

    def is_expired() -> bool:
        try:
            make(old).stat(file)
        except (AccessDenied, Transient) as error:
            told.append(str(error))
        return "our certificate has expired" in told[-1]

    eventually(is_expired)
    elder = make_machine(tmp_path / "elder", now=NOW - timedelta(days=1000))
    with pytest.raises(ConnectionLost, match="its certificate is not in this library"):
        make(certificates=[elder.certificate.text]).stat(file)


def test_a_key_of_ours_that_was_replaced_is_used_without_a_restart(host: Host, make: Make, phone: Machine) -> None:
    backend, file = make(), host.publish(DATA)
    assert backend.stat(file) is not None
    renewed = identity.renew(phone.state_dir, phone.id)
    host.see(Machine(phone.id, phone.state_dir, renewed).document())

    def is_let_in() -> bool:
        try:
            return backend.stat(file) is not None
        except Transient:
            return False

    eventually(is_let_in)


# What there is.


def test_a_file_of_several_leaves_is_known_by_its_name(host: Host, backend: PeerBackend) -> None:
    file = host.publish(DATA)
    info = backend.stat(file)
    assert info is not None
    assert (info.size, info.sha256, info.composite_sha256) == (
        file.size,
        None,
        leaves.file_digest(file.leaf_digests),
    )


def test_leaves_of_an_unfinished_file_can_be_had_and_the_others_come_later(host: Host, backend: PeerBackend) -> None:
    file = factories.file_spec(DATA)
    key = TransferKey(Direction.DOWNLOAD, file.file_id, "")
    with pytest.raises(ObjectMissing, match=file.file_id):
        fetched(backend, file, 1)
    with host.store.partial(file.file_id, file.size) as partial:
        partial.write_leaf(1, memoryview(leaf_of(1)))
        host.journal.leaves.record(key, host.store.store_id, partial.identity, 1)
        assert backend.stat(file) is None
        assert fetched(backend, file, 1) == leaf_of(1)
        with pytest.raises(LeafMissing) as caught:
            fetched(backend, file, 0)
        assert (caught.value.leaf, sorted(caught.value.there)) == (0, [1])
        assert caught.value.store_id == host.store.store_id
        partial.write_leaf(0, memoryview(leaf_of(0)))
        host.journal.leaves.record(key, host.store.store_id, partial.identity, 0)
        assert fetched(backend, file, 0) == leaf_of(0)


def test_a_connection_is_used_again(host: Host, backend: PeerBackend) -> None:
    file = host.publish(DATA)
    before = host.open_files
    for index in (0, 1, 2, 1):
        assert fetched(backend, file, index) == leaf_of(index)
        backend.stat(file)
    assert host.open_files <= before + 2  # the connection, and the file if it is still being closed


def test_a_server_that_was_started_anew_is_reached_by_the_next_request(host: Host, make: Make) -> None:
    file = host.publish(DATA)
    backend = make()
    assert fetched(backend, file, 2) == leaf_of(2)
    host.stop()
    host.setup = host.setup.model_copy(update={"port": host.port})
    host.start()
    assert fetched(backend, file, 2) == leaf_of(2)  # the old connection is found to be dead


def test_no_transfers_at_this_time_of_day_says_when_to_come_back(host: Host, backend: PeerBackend) -> None:
    file = host.publish(DATA)
    assert host.server is not None
    host.server.limit(send_bps=None, receive_bps=None, stopped=True)

    def is_told() -> bool:
        try:
            fetched(backend, file, 2)
        except ServerBusy as error:
            return error.retry_after_s == 300
        return False

    eventually(is_told)


# What is sent.


def sent(backend: PeerBackend, file: FileSpec, upload_id: str, *indexes: int) -> None:
    for index in indexes:
        part = backend.put_part(file, upload_id, index + 1, BytesBody(leaf_of(index)), unmetered)
        assert part.sha256 == leaves.digest_of_leaf(file.leaf_digests, index)


def test_a_file_is_sent_leaf_by_leaf_and_nothing_of_the_upload_stays(host: Host, backend: PeerBackend) -> None:
    file = host.document(DATA)
    upload_id = backend.begin(file)
    sent(backend, file, upload_id, 0, 1)
    listed = backend.list_parts(file, upload_id)
    assert [part.sha256 for part in listed] == list(leaves.unpack(file.leaf_digests))[:2]
    sent(backend, file, upload_id, 2)
    backend.finish(file, upload_id, backend.list_parts(file, upload_id))
    assert host.store.path(file.file_id).read_bytes() == DATA
    stored = host.stored.get(timeout=10)
    assert stored.file_id == file.file_id
    with pytest.raises(UploadGone):
        backend.list_parts(file, upload_id)
    assert host.server is not None
    host.server.confirm(stored)
    eventually(lambda: [path.name for path in left_behind(host)] == [host.store.path(file.file_id).name])


def test_an_upload_goes_on_in_the_middle_of_a_leaf(host: Host, make: Make) -> None:
    file = host.document(DATA)
    backend, moved = make(), 0
    upload_id = backend.begin(file)

    def meter(count: int) -> None:
        nonlocal moved
        moved += count
        if moved > LEAF // 2:
            time.sleep(0.5)  # until the server has it
            raise ConnectionLost("a test cuts")

    with pytest.raises(ConnectionLost):
        backend.put_part(file, upload_id, 1, BytesBody(leaf_of(0)), meter)
    moved = -(10**9)
    counted: list[int] = []
    part = backend.put_part(file, upload_id, 1, BytesBody(leaf_of(0)), counted.append)
    assert part.sha256 == leaves.digest_of_leaf(file.leaf_digests, 0)
    sent(backend, file, upload_id, 1, 2)
    assert host.store.path(file.file_id).read_bytes() == DATA


def test_a_server_that_is_killed_between_two_leaves_goes_on(host: Host, make: Make) -> None:
    file = host.document(DATA)
    host.setup = host.setup.model_copy(update={"port": host.port})
    host.stop()
    host.start()
    backend = make()
    upload_id = backend.begin(file)
    sent(backend, file, upload_id, 0)
    assert host.server is not None
    assert host.server.pid is not None
    os.kill(host.server.pid, signal.SIGKILL)
    host.listening.get(timeout=20)
    assert [part.number for part in backend.list_parts(file, upload_id)] == [1]
    sent(backend, file, upload_id, 1, 2)
    backend.finish(file, upload_id, [])
    assert host.store.path(file.file_id).read_bytes() == DATA


def test_a_file_of_which_the_peer_knows_nothing_yet_is_tried_again_later(backend: PeerBackend) -> None:
    file = factories.file_spec(DATA)
    with pytest.raises(Transient, match="has no document in this library"):
        backend.begin(file)


def test_an_upload_that_is_given_up_leaves_nothing(host: Host, backend: PeerBackend) -> None:
    file = host.document(DATA)
    upload_id = backend.begin(file)
    sent(backend, file, upload_id, 0)
    assert left_behind(host)
    assert backend.abandon(backend.object_name(file), upload_id)
    assert left_behind(host) == []
    assert backend.abandon(backend.object_name(file), "../../files")
