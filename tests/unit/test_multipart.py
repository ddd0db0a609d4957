"""An upload that pauses, resumes and exports its session: what it tells, in which order, and what is sent."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.errors import AccessDenied, ConnectionLost, InvalidInput, UploadGone
from dmedia_transfer.leaves import Span
from dmedia_transfer.multipart import (
    Failed,
    FileParts,
    MultipartUpload,
    PartSent,
    PartSource,
    Paused,
    Pausing,
    Ready,
    Session,
    StreamParts,
    Uploaded,
)
from dmedia_transfer.ports import Body, Meter, Part
from tests.factories import content
from tests.waiting import eventually

PART = 1000


class Server:
    """One multipart upload in memory; a gate holds parts back until a test opens it."""

    def __init__(self) -> None:
        self.parallel_parts = True
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.object: bytes | None = None
        self.sent: Counter[int] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.begun: list[int] = []
        self.fail: Callable[[str, int], Exception | None] = lambda verb, number: None
        self.cut_now = threading.Event()
        self.lock = threading.Lock()

    def begin(self) -> str:
        self._maybe_fail("begin", 0)
        upload_id = f"upload-{len(self.uploads) + 1}"
        self.uploads[upload_id] = {}
        return upload_id

    def put_part(self, upload_id: str, number: int, body: Body, meter: Meter) -> Part:
        self.begun.append(number)
        data = b""
        for piece in body.pieces():
            data += bytes(piece)
            meter(len(piece))
        while not self.gate.wait(0.002):
            if self.cut_now.is_set():
                raise ConnectionLost("cut")
        self._maybe_fail("put_part", number)
        with self.lock:
            self.uploads[upload_id][number] = data
            self.sent[number] += 1
        return self._part(number, data)

    def list_parts(self, upload_id: str) -> list[Part]:
        self._maybe_fail("list_parts", 0)
        if upload_id not in self.uploads:
            raise UploadGone(upload_id)
        return [self._part(number, data) for number, data in sorted(self.uploads[upload_id].items())]

    def finish(self, upload_id: str, parts: Sequence[Part]) -> None:
        self._maybe_fail("finish", 0)
        self.object = b"".join(self.uploads[upload_id][part.number] for part in parts)
        del self.uploads[upload_id]
        self._maybe_fail("finished", 0)

    def is_finished(self, parts: Sequence[Part]) -> bool:
        return self.object is not None and len(self.object) == sum(part.size for part in parts)

    def abort(self, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)

    def cut(self) -> None:
        self.cut_now.set()

    def _maybe_fail(self, verb: str, number: int) -> None:
        if (error := self.fail(verb, number)) is not None:
            raise error

    @staticmethod
    def _part(number: int, data: bytes) -> Part:
        return Part(number, len(data), hashlib.md5(data).hexdigest(), hashlib.sha256(data).digest())


class Pipe:
    """A stream that cannot go back; it gives what a test has written."""

    def __init__(self, data: bytes = b"", *, open_end: bool = False) -> None:
        self.data = data
        self.read_bytes = 0
        self.more = threading.Event()
        self.open_end = open_end

    def read(self, size: int) -> bytes:
        while self.open_end and self.read_bytes == len(self.data):
            self.more.wait(0.01)
        piece = self.data[self.read_bytes : self.read_bytes + size]
        self.read_bytes += len(piece)
        return piece


def file_parts(data: bytes) -> PartSource:
    view = memoryview(data)

    def read(start: int, into: memoryview) -> None:
        into[:] = view[start : start + len(into)]

    spans = [Span(i, start, min(PART, len(data) - start)) for i, start in enumerate(range(0, len(data), PART))]
    return FileParts(read, spans)


def listen(upload: MultipartUpload) -> list[Any]:
    """All events, in the order in which they are told."""
    events: list[Any] = []
    upload.on("ready", events.append)
    upload.on("part", events.append)
    upload.on("pausing", events.append)
    upload.on("paused", events.append)
    upload.on("resumed", events.append)
    upload.on("uploaded", events.append)
    upload.on("error", events.append)
    return events


def kinds(events: list[Any]) -> list[str]:
    return [type(event).__name__ for event in events]


DATA = content(PART * 9 + 123)


@pytest.mark.parametrize("source", [file_parts, lambda data: StreamParts(Pipe(data), PART)], ids=["file", "stream"])
def test_an_upload_tells_when_it_is_ready_of_each_part_and_of_the_end(source: Callable[[bytes], PartSource]) -> None:
    server = Server()
    upload = MultipartUpload(server, source(DATA))
    events = listen(upload)
    upload.start()
    assert upload.wait(10)
    assert server.object == DATA
    assert events[0] == Ready("upload-1")
    assert kinds(events) == ["Ready", *["PartSent"] * 10, "Uploaded"]
    sent = [event for event in events if isinstance(event, PartSent)]
    assert sorted(event.part.number for event in sent) == list(range(1, 11))
    assert [event.bytes_sent for event in sent] == sorted(event.bytes_sent for event in sent)
    assert events[-1] == Uploaded(tuple(upload.parts), len(DATA))
    assert not upload.pause()
    assert not upload.resume()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, PART * 3])
def test_a_stream_of_any_length_arrives_whole(size: int) -> None:
    server = Server()
    upload = MultipartUpload(server, StreamParts(Pipe(DATA[:size]), PART))
    upload.start()
    assert upload.wait(10)
    assert server.object == DATA[:size]


def test_a_stream_that_gives_a_little_at_a_time_makes_whole_parts() -> None:
    class Dribble(Pipe):
        def read(self, size: int) -> bytes:
            return super().read(min(size, 7))

    server = Server()
    upload = MultipartUpload(server, StreamParts(Dribble(DATA), PART))
    upload.start()
    assert upload.wait(10)
    assert [part.size for part in upload.parts] == [PART] * 9 + [123]


def test_a_pause_finishes_what_is_in_flight_and_then_is_told_with_the_session() -> None:
    server = Server()
    server.gate.clear()
    upload = MultipartUpload(server, file_parts(DATA), connections=3)
    events = listen(upload)
    upload.start()
    eventually(lambda: len(server.begun) == 3)
    assert upload.pause()
    assert not upload.pause(), "it is pausing already"
    assert events[-1] == Pausing(3)
    server.gate.set()
    eventually(lambda: isinstance(events[-1], Paused))
    paused = events[-1]
    assert (paused.upload_id, len(paused.parts), paused.bytes_sent) == ("upload-1", 3, 3 * PART)
    assert not upload.pause()
    time.sleep(0.02)
    assert len(server.begun) == 3, "nothing more is sent"
    assert upload.resume()
    assert not upload.resume()
    assert upload.wait(10)
    assert server.object == DATA
    assert set(server.sent.values()) == {1}
    assert kinds(events).count("Paused") == kinds(events).count("Resumed") == 1


def test_a_resume_before_paused_means_that_paused_is_never_told() -> None:
    server = Server()
    server.gate.clear()
    upload = MultipartUpload(server, file_parts(DATA), connections=3)
    events = listen(upload)
    upload.start()
    eventually(lambda: len(server.begun) == 3)
    assert upload.pause()
    assert upload.resume()
    server.gate.set()
    assert upload.wait(10)
    assert "Paused" not in kinds(events)
    assert kinds(events)[:3] == ["Ready", "Pausing", "Resumed"]
    assert server.object == DATA
    assert set(server.sent.values()) == {1}


def test_a_resume_while_paused_waits_to_be_told_means_that_it_is_not_told() -> None:
    server = Server()
    server.gate.clear()
    upload = MultipartUpload(server, file_parts(DATA), connections=2)
    events = listen(upload)
    released = threading.Event()
    upload.on("pausing", lambda event: released.wait(10))
    upload.start()
    eventually(lambda: len(server.begun) == 2)
    pausing = threading.Thread(target=upload.pause)
    pausing.start()
    eventually(lambda: "Pausing" in kinds(events))
    server.gate.set()
    eventually(lambda: upload._state.name == "PAUSED")  # it has come into force, but a callback holds up the telling
    assert upload.resume()
    released.set()
    pausing.join(10)
    assert upload.wait(10)
    assert "Paused" not in kinds(events)
    assert "Resumed" in kinds(events)
    assert set(server.sent.values()) == {1}


def test_parts_that_outlast_the_grace_are_cut_and_sent_again_on_resume() -> None:
    server = Server()
    server.gate.clear()
    upload = MultipartUpload(server, file_parts(DATA), connections=3, grace_s=0.05)
    events = listen(upload)
    upload.start()
    eventually(lambda: len(server.begun) == 3)
    upload.pause()
    eventually(lambda: isinstance(events[-1], Paused))
    assert events[-1].bytes_sent == 0
    server.cut_now.clear()
    server.gate.set()
    assert upload.resume()
    assert upload.wait(10)
    assert server.object == DATA


def test_commands_from_callbacks_are_obeyed() -> None:
    server = Server()
    upload = MultipartUpload(server, file_parts(DATA), connections=2)
    events = listen(upload)
    answers: list[bool] = []
    upload.on("part", lambda event: answers.append(upload.pause()) if event.part.number == 3 else None)
    upload.on("paused", lambda event: answers.append(upload.resume()))
    upload.start()
    assert upload.wait(10)
    assert answers == [True, True]
    assert kinds(events)[-1] == "Uploaded"
    assert server.object == DATA


def test_a_callback_that_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    upload = MultipartUpload(server, file_parts(DATA))
    upload.on("part", lambda event: 1 / 0)
    upload.start()
    assert upload.wait(10)
    assert server.object == DATA
    assert "a callback for 'part' failed" in caplog.text


def test_there_is_no_event_of_another_name() -> None:
    with pytest.raises(InvalidInput, match="pausing"):
        MultipartUpload(Server(), file_parts(DATA)).on("done", print)  # type: ignore[call-overload]


def test_nothing_can_be_paused_before_it_was_started() -> None:
    upload = MultipartUpload(Server(), file_parts(DATA))
    assert not upload.pause()
    assert not upload.resume()


def test_an_error_is_told_and_a_resume_goes_on_from_what_has_arrived() -> None:
    server = Server()
    refused = AccessDenied("no")
    server.fail = lambda verb, number: refused if (verb, number) == ("put_part", 4) else None
    upload = MultipartUpload(server, file_parts(DATA), connections=1)
    events = listen(upload)
    upload.start()
    with pytest.raises(AccessDenied):
        upload.wait(10)
    assert events[-1] == Failed(refused)
    server.fail = lambda verb, number: None
    assert upload.resume()
    assert upload.wait(10)
    assert server.object == DATA
    assert set(server.sent.values()) == {1}
    assert len(server.begun) == 11


def test_a_stream_loses_no_byte_when_a_part_fails() -> None:
    server = Server()
    server.fail = lambda verb, number: ConnectionLost("reset") if (verb, number) == ("put_part", 4) else None
    upload = MultipartUpload(server, StreamParts(Pipe(DATA), PART), connections=3)
    upload.start()
    with pytest.raises(ConnectionLost):
        upload.wait(10)
    server.fail = lambda verb, number: None
    assert upload.resume()
    assert upload.wait(10)
    assert server.object == DATA


def test_a_lost_answer_to_the_end_is_recognised() -> None:
    server = Server()
    server.fail = lambda verb, number: ConnectionLost("reset") if verb == "finished" else None
    upload = MultipartUpload(server, file_parts(DATA))
    upload.start()
    assert upload.wait(10)
    assert server.object == DATA


def test_aborting_lets_go_and_forgets_the_upload_at_the_server() -> None:
    server = Server()
    server.gate.clear()
    upload = MultipartUpload(server, file_parts(DATA), connections=3)
    events = listen(upload)
    upload.start()
    eventually(lambda: len(server.begun) == 3)
    upload.abort()
    assert server.uploads == {}
    assert not upload.wait(1)
    assert not upload.resume()
    assert "Failed" not in kinds(events)


def test_aborting_from_a_callback_is_done_when_the_upload_has_let_go() -> None:
    server = Server()
    upload = MultipartUpload(server, file_parts(DATA), connections=2)
    upload.on("part", lambda event: upload.abort())
    upload.start()
    assert not upload.wait(10)
    eventually(lambda: server.uploads == {})


# Sessions


def paused_session(server: Server, source: PartSource, *, after: int, connections: int = 3) -> dict[str, Any]:
    """Upload some parts, pause, and give back the session as another process would read it."""
    upload = MultipartUpload(server, source, connections=connections)
    told: list[Paused] = []
    upload.on("paused", told.append)
    upload.on("part", lambda event: upload.pause() if event.part.number == after else None)
    upload.start()
    eventually(lambda: bool(told))
    session: dict[str, Any] = json.loads(json.dumps(told[0].session))
    assert session == json.loads(json.dumps(upload.session()))
    return session


def resumed(
    server: Server, source: PartSource, session: dict[str, Any] | None, *, connections: int = 4
) -> MultipartUpload:
    if session is None:
        return MultipartUpload(server, source, connections=connections)
    old = Session.read(session)
    return MultipartUpload(server, source, connections=connections, upload_id=old.upload_id, known=old.parts)


def pause_at(upload: MultipartUpload, number: int, event: PartSent) -> None:
    if event.part.number == number:
        upload.pause()


def go_on(upload: MultipartUpload, _: Paused) -> None:
    upload.resume()


def test_a_session_goes_on_in_a_later_process_with_no_part_sent_twice() -> None:
    server = Server()
    session = paused_session(server, file_parts(DATA), after=3)
    assert session["bytes_sent"] == sum(part["size"] for part in session["parts"])
    upload = resumed(server, file_parts(DATA), session)
    upload.start()
    assert upload.wait(10)
    assert server.object == DATA
    assert set(server.sent.values()) == {1}


def test_a_session_of_a_stream_goes_on_with_a_stream_that_starts_at_bytes_sent() -> None:
    server, pipe = Server(), Pipe(DATA)
    session = paused_session(server, StreamParts(pipe, PART), after=2)
    assert session["unsent"] == []
    assert pipe.read_bytes == session["bytes_sent"], "nothing beyond it was read"
    old = Session.read(session)
    rest = StreamParts(Pipe(DATA[old.bytes_sent :]), old.part_bytes, unsent=old.unsent)
    upload = resumed(server, rest, session)
    upload.start()
    assert upload.wait(10)
    assert server.object == DATA
    assert set(server.sent.values()) == {1}


def test_what_a_stream_gave_and_nobody_confirmed_is_in_the_session() -> None:
    server, pipe = Server(), Pipe(DATA)
    server.gate.clear()
    upload = MultipartUpload(server, StreamParts(pipe, PART), connections=3, grace_s=0.05)
    events = listen(upload)
    upload.start()
    eventually(lambda: len(server.begun) == 3)
    upload.pause()
    eventually(lambda: isinstance(events[-1], Paused))
    session = json.loads(json.dumps(events[-1].session))
    old = Session.read(session)
    assert (old.bytes_sent, old.bytes_read) == (0, pipe.read_bytes)
    server.cut_now.clear()
    server.gate.set()
    rest = StreamParts(Pipe(DATA[old.bytes_read :]), old.part_bytes, unsent=old.unsent)
    later = resumed(server, rest, session)
    later.start()
    assert later.wait(10)
    assert server.object == DATA


def test_a_slow_stream_that_is_paused_in_the_middle_of_a_part_loses_nothing() -> None:
    class Slow(Pipe):
        def read(self, size: int) -> bytes:
            time.sleep(0.005)
            return super().read(min(size, 50))

    server, pipe = Server(), Slow(DATA[: PART * 2])
    source: list[StreamParts] = []
    upload: list[MultipartUpload] = []
    source.append(StreamParts(pipe, PART, interrupted=lambda: upload[0].interrupting))
    upload.append(MultipartUpload(server, source[0], connections=2, grace_s=0.0))
    events = listen(upload[0])
    upload[0].start()
    eventually(lambda: pipe.read_bytes > 100)
    upload[0].pause()
    eventually(lambda: isinstance(events[-1], Paused))
    old = Session.read(json.loads(json.dumps(events[-1].session)))
    assert 0 < old.bytes_read == pipe.read_bytes < PART
    rest = StreamParts(Pipe(DATA[old.bytes_read : PART * 2]), old.part_bytes, unsent=old.unsent)
    later = resumed(server, rest, old.write())
    later.start()
    assert later.wait(10)
    assert server.object == DATA[: PART * 2]


def test_a_stream_whose_parts_are_gone_cannot_go_on() -> None:
    server = Server()
    session = paused_session(server, StreamParts(Pipe(DATA), PART), after=2)
    del server.uploads["upload-1"][1]
    old = Session.read(session)
    upload = resumed(server, StreamParts(Pipe(DATA[old.bytes_sent :]), PART), session)
    upload.start()
    with pytest.raises(UploadGone, match="part 1"):
        upload.wait(10)


def test_a_file_that_changed_since_the_session_is_sent_where_it_differs() -> None:
    server = Server()
    session = paused_session(server, file_parts(DATA), after=3)
    changed = b"x" + DATA[1:]
    upload = resumed(server, file_parts(changed), session)
    upload.start()
    assert upload.wait(10)
    assert server.object == changed
    assert server.sent[1] == 2


def test_a_stream_that_is_too_long_is_told_of() -> None:
    upload = MultipartUpload(Server(), StreamParts(Pipe(DATA), PART, max_parts=5))
    upload.start()
    with pytest.raises(InvalidInput, match="larger"):
        upload.wait(10)


@pytest.mark.parametrize(
    "raw",
    [{"version": 2}, {"upload_id": None}, {"parts": [{"number": 1}]}, {"parts": ["x"]}, {"unsent": [{"data": "?"}]}],
)
def test_what_is_no_session_is_refused(raw: dict[str, Any]) -> None:
    good = Session("upload", None, PART, (Part(1, PART, "etag"),), ((2, b"rest"),)).write()
    assert Session.read(good).write() == good
    broken = {name: value for name, value in {**good, **raw}.items() if value is not None or name == "size"}
    with pytest.raises(InvalidInput):
        Session.read(broken)


@given(
    size=st.integers(0, PART * 8),
    pauses=st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=5),
    connections=st.integers(1, 4),
    stream=st.booleans(),
)
def test_however_often_it_is_paused_and_moved_to_another_process_no_part_is_sent_twice(
    size: int, pauses: list[tuple[int, bool]], connections: int, stream: bool
) -> None:
    data, server = DATA[:size], Server()
    old: Session | None = None
    for at, elsewhere in [*pauses, (0, False)]:
        source: PartSource
        if stream:
            start, unsent = (old.bytes_read, old.unsent) if old else (0, ())
            source = StreamParts(io.BytesIO(data[start:]), PART, unsent=unsent)
        else:
            source = file_parts(data)
        upload = resumed(server, source, old.write() if old else None, connections=connections)
        ended: list[Any] = []
        upload.on("part", partial(pause_at, upload, at))
        upload.on("paused", ended.append if elsewhere else partial(go_on, upload))
        upload.on("uploaded", ended.append)
        upload.start()
        eventually(partial(bool, ended))
        if isinstance(ended[0], Uploaded):
            break
        old = Session.read(json.loads(json.dumps(ended[0].session)))
    assert server.object == data
    assert set(server.sent.values()) == {1}
