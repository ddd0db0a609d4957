"""The service on a real bus, asked by GDBus, as most apps will."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from gi.repository import Gio, GLib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmedia_transfer import busnames
from dmedia_transfer.bus import mainloop
from dmedia_transfer.bus.service import BusService, NameTaken
from dmedia_transfer.busnames import BUS_NAME, JOB, MANAGER, OBJECT_MANAGER, PROPERTIES, ROOT, TRANSFER, path_of
from dmedia_transfer.errors import DiskFull
from dmedia_transfer.model import (
    Direction,
    Entry,
    FileOutcome,
    JobKey,
    JobKind,
    LongJob,
    Progress,
    Transfer,
    TransferKey,
)
from dmedia_transfer.states import Event, Reason, Status
from tests.bus import ServiceThread
from tests.control import FakeControl
from tests.factories import STORE_ID
from tests.jobcontrol import FakeJobs, corrupt

FILE_ID = "F" * 48
DOWNLOAD = TransferKey(Direction.DOWNLOAD, FILE_ID, "")
UPLOAD = TransferKey(Direction.UPLOAD, FILE_ID, STORE_ID)
VERIFICATION = LongJob(
    "V" * 24, JobKind.VERIFY, store_id=STORE_ID, outcomes={FileOutcome.VERIFIED: 3}, requested_by="test", time=5.5
)
XML = Path(__file__).parents[2] / "data/dbus-1/interfaces/org.dmedia.Transfer1.xml"


class Caller:
    """A program on the bus that knows nothing of us."""

    def __init__(self, address: str) -> None:
        flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
        self.context = GLib.MainContext()
        self.context.push_thread_default()
        self.signals: list[tuple[str, str, tuple[Any, ...]]] = []
        self.connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        self.connection.signal_subscribe(BUS_NAME, None, None, None, None, Gio.DBusSignalFlags.NONE, self._heard)
        self.context.pop_thread_default()

    def _heard(self, _c: Any, _s: str, path: str, _i: str, member: str, arguments: Any) -> None:
        self.signals.append((path, member, arguments.unpack()))

    def heard(self, count: int, *, within_s: float = 10.0) -> list[tuple[str, str, tuple[Any, ...]]]:
        """The first `count` signals, in order."""
        end = time.monotonic() + within_s
        while len(self.signals) < count and time.monotonic() < end:
            if not self.context.iteration(False):
                time.sleep(0.005)
        return self.signals[:count]

    def call(
        self, path: str, interface: str | None, method: str, arguments: Any = None, *, timeout_ms: int = 10_000
    ) -> Any:
        """Call, and unpack the reply."""
        message = Gio.DBusMessage.new_method_call(BUS_NAME, path, interface, method)
        if arguments is not None:
            message.set_body(arguments)
        flags = Gio.DBusSendMessageFlags.NONE
        reply, _serial = self.connection.send_message_with_reply_sync(message, flags, timeout_ms, None)
        reply.to_gerror()  # raises if it is one
        return reply.get_body().unpack() if reply.get_body() is not None else ()

    def error_of(self, path: str, interface: str | None, method: str, arguments: Any = None) -> tuple[str, str] | None:
        """Call, and return the error's name and sentence, if there is one."""
        try:
            self.call(path, interface, method, arguments)
        except GLib.Error as error:
            name = Gio.DBusError.get_remote_error(error)
            if name is None:
                raise
            return name, error.message.removeprefix(f"GDBus.Error:{name}: ")
        return None

    def error(self, path: str, interface: str | None, method: str, arguments: Any = None) -> tuple[str, str]:
        """Call what has to be refused, and return the error's name and sentence."""
        error = self.error_of(path, interface, method, arguments)
        assert error is not None, f"{method} was not refused"
        return error


@pytest.fixture
def caller(bus_service: ServiceThread) -> Iterator[Caller]:
    caller = Caller(bus_service.bus.address)
    yield caller
    caller.connection.close_sync(None)


def variant(signature: str, *values: Any) -> Any:
    return GLib.Variant(signature, values)


def add(bus_service: ServiceThread, *keys: TransferKey | JobKey) -> None:
    """Put transfers, and the verification, in place."""
    for key in keys:
        if isinstance(key, JobKey):
            bus_service.do(lambda: bus_service.jobs.add(VERIFICATION))
            continue
        bus_service.do(partial(bus_service.control.add, Transfer(key)))


def queue_download(caller: Caller, **options: Any) -> str:
    path: str = caller.call(ROOT, MANAGER, "QueueDownload", variant("(ssa{sv})", FILE_ID, "", options))[0]
    return path


# Methods.


def test_a_download_is_queued_with_its_options(bus_service: ServiceThread, caller: Caller) -> None:
    options = {
        "priority": GLib.Variant("s", "now"),
        "only": GLib.Variant("b", True),
        "metered": GLib.Variant("b", True),
        "paused": GLib.Variant("b", True),
        "requested_by": GLib.Variant("s", "Ünicode app"),
    }
    reply = caller.call(ROOT, MANAGER, "QueueDownload", variant("(ssa{sv})", FILE_ID, STORE_ID, options))
    assert reply == (f"{ROOT}/downloads/{FILE_ID}",)
    expected = Entry(
        file_id=FILE_ID,
        store_id=STORE_ID,
        priority=100,
        only=True,
        paused=True,
        metered=True,
        requested_by="Ünicode app",
    )
    assert bus_service.control.entries == [expected]
    assert {
        type(value) for value in (bus_service.control.entries[0].file_id, bus_service.control.entries[0].store_id)
    } == {str}


def test_an_upload_is_queued(bus_service: ServiceThread, caller: Caller) -> None:
    options = {"priority": GLib.Variant("i", 7)}
    reply = caller.call(ROOT, MANAGER, "QueueUpload", variant("(ssa{sv})", FILE_ID, STORE_ID, options))
    assert reply == (f"{ROOT}/uploads/{FILE_ID}/{STORE_ID}",)
    assert bus_service.control.entries == [Entry(FILE_ID, Direction.UPLOAD, STORE_ID, priority=7)]


def test_many_downloads_are_queued_at_once_in_their_order(bus_service: ServiceThread, caller: Caller) -> None:
    ids = ["B" * 48, "A" * 48]
    (paths,) = caller.call(ROOT, MANAGER, "QueueDownloads", variant("(asa{sv})", ids, {}))
    assert paths == [f"{ROOT}/downloads/{each}" for each in ids]
    assert [entry.file_id for entry in bus_service.control.entries] == ids
    assert caller.call(ROOT, MANAGER, "QueueDownloads", variant("(asa{sv})", [], {})) == ([],)


def test_one_wrong_file_of_many_queues_none(bus_service: ServiceThread, caller: Caller) -> None:
    _, sentence = caller.error(ROOT, MANAGER, "QueueDownloads", variant("(asa{sv})", ["A" * 48, "../x"], {}))
    assert sentence == "file_ids[1]: '../x' is not a file ID (48 characters of base32)"
    assert bus_service.control.entries == []


def test_a_file_that_is_here_is_resolved_to_its_path(bus_service: ServiceThread, caller: Caller) -> None:
    bus_service.control.here[FILE_ID] = "/home/x/files/F"
    assert caller.call(ROOT, MANAGER, "Resolve", variant("(s)", FILE_ID)) == ("here", "/home/x/files/F")


def test_a_file_that_is_not_here_is_queued_as_now(bus_service: ServiceThread, caller: Caller) -> None:
    assert caller.call(ROOT, MANAGER, "Resolve", variant("(s)", FILE_ID)) == ("queued", "")
    assert bus_service.control.entries[0].priority == 100


def test_the_whole_queue_is_held_and_let_go(caller: Caller) -> None:
    said = [caller.call(ROOT, MANAGER, method) for method in ("PauseAll", "PauseAll", "ResumeAll", "ResumeAll")]
    assert said == [(True,), (False,), (True,), (False,)]


def test_transfers_get_another_place_in_the_queue(bus_service: ServiceThread, caller: Caller) -> None:
    first, second, third = (DOWNLOAD._replace(file_id=letter * 48) for letter in "ABC")
    for order, key in enumerate((first, second, third), start=1):
        bus_service.do(partial(bus_service.control.add, Transfer(key, order=order)))

    def in_order() -> list[str]:
        objects = caller.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")[0]
        return sorted(objects, key=lambda path: float(objects[path][TRANSFER]["Order"]))

    moved = variant("(aoo)", [path_of(third)], path_of(first))
    assert caller.call(ROOT, MANAGER, "PutBefore", moved) == (True,)
    assert in_order() == [path_of(key) for key in (third, first, second)]
    assert caller.call(ROOT, MANAGER, "PutBefore", variant("(aoo)", [path_of(third)], "/")) == (True,)
    assert in_order() == [path_of(key) for key in (first, second, third)]
    assert caller.call(ROOT, MANAGER, "PutBefore", variant("(aoo)", [path_of(third)], path_of(third))) == (False,)


def test_limits_are_set_and_shown(bus_service: ServiceThread, caller: Caller) -> None:
    limits = {"download_bps": GLib.Variant("t", 500_000), "connections": GLib.Variant("u", 2)}
    assert caller.call(ROOT, MANAGER, "SetLimits", variant("(a{sv})", limits)) == ()
    assert bus_service.control.limits == [{"download_bps": 500_000.0, "connections": 2}]
    assert caller.call(ROOT, PROPERTIES, "Get", variant("(ss)", MANAGER, "DownloadLimit")) == (500_000,)


def test_a_transfer_does_what_it_is_told_and_says_whether_that_changed_anything(
    bus_service: ServiceThread,
    caller: Caller,
) -> None:
    path = queue_download(caller)
    said = [caller.call(path, TRANSFER, method) for method in ("Pause", "Pause", "Resume", "Resume", "Retry")]
    assert said == [(True,), (False,), (True,), (False,), (False,)]
    assert caller.call(path, TRANSFER, "SetPriority", variant("(i)", 50)) == (True,)
    assert caller.call(path, TRANSFER, "SetPriority", variant("(i)", 50)) == (False,)
    assert bus_service.control.transfers()[DOWNLOAD].priority == 50
    assert caller.call(path, TRANSFER, "Cancel") == (True,)
    assert bus_service.control.transfers()[DOWNLOAD].status is Status.CANCELLED


def test_the_interface_may_be_left_out(caller: Caller) -> None:
    assert caller.call(ROOT, None, "PauseAll") == (True,)
    assert caller.call(ROOT, None, "GetAll", variant("(s)", MANAGER))[0]["QueuePaused"] is True


def test_who_wants_no_reply_gets_none(bus_service: ServiceThread, caller: Caller) -> None:
    message = Gio.DBusMessage.new_method_call(BUS_NAME, ROOT, MANAGER, "PauseAll")
    message.set_flags(Gio.DBusMessageFlags.NO_REPLY_EXPECTED)
    caller.connection.send_message(message, Gio.DBusSendMessageFlags.NONE)
    caller.connection.flush_sync(None)
    assert caller.call(ROOT, "org.freedesktop.DBus.Peer", "Ping") == ()
    assert bus_service.do(lambda: bus_service.control.summary().queue_paused)


# Errors.

OTHER = f"{ROOT}/downloads/{'A' * 48}"


@pytest.mark.parametrize(
    ("path", "interface", "method", "arguments", "name", "words"),
    [
        (ROOT, MANAGER, "QueueDownload", variant("(ssa{sv})", "x", "", {}), "InvalidRequest", "file_id: 'x'"),
        (ROOT, MANAGER, "QueueDownload", variant("(ssa{sv})", FILE_ID, "x", {}), "InvalidRequest", "store_id: 'x'"),
        (ROOT, MANAGER, "QueueUpload", variant("(ssa{sv})", FILE_ID, "", {}), "InvalidRequest", "store_id: ''"),
        (
            ROOT,
            MANAGER,
            "QueueDownload",
            variant("(ssa{sv})", FILE_ID, "", {"only": GLib.Variant("b", True)}),
            "InvalidRequest",
            "only: needs a store_id",
        ),
        (
            ROOT,
            MANAGER,
            "QueueUpload",
            variant("(ssa{sv})", FILE_ID, STORE_ID, {"only": GLib.Variant("b", True)}),
            "InvalidRequest",
            "unknown option 'only'",
        ),
        (
            ROOT,
            MANAGER,
            "QueueDownload",
            variant("(ssa{sv})", FILE_ID, "", {"colour": GLib.Variant("s", "red")}),
            "InvalidRequest",
            "unknown option 'colour'",
        ),
        (ROOT, MANAGER, "Resolve", variant("(s)", "../etc"), "InvalidRequest", "file_id: '../etc'"),
        (
            ROOT,
            MANAGER,
            "SetLimits",
            variant("(a{sv})", {"max_transfers": GLib.Variant("i", 1000)}),
            "InvalidRequest",
            "max_transfers: 1000",
        ),
        (ROOT, MANAGER, "Resolve", variant("(u)", 1), busnames.INVALID_ARGS, "Resolve takes (s)"),
        (ROOT, MANAGER, "PutBefore", variant("(aoo)", [OTHER], "/"), busnames.UNKNOWN_OBJECT, "A" * 48),
        (ROOT, MANAGER, "PutBefore", variant("(aoo)", [ROOT], "/"), busnames.UNKNOWN_OBJECT, ROOT),
        (ROOT, MANAGER, "Explode", None, busnames.UNKNOWN_METHOD, "Explode"),
        (ROOT, "com.example.X", "PauseAll", None, busnames.UNKNOWN_INTERFACE, "com.example.X"),
        (ROOT, TRANSFER, "Pause", None, busnames.UNKNOWN_INTERFACE, TRANSFER),
        (OTHER, TRANSFER, "Pause", None, busnames.UNKNOWN_OBJECT, "download " + "A" * 48),
        (OTHER, PROPERTIES, "GetAll", variant("(s)", TRANSFER), busnames.UNKNOWN_OBJECT, "A" * 48),
        (f"{ROOT}/nonsense", None, "Pause", None, busnames.UNKNOWN_OBJECT, "nonsense"),
        (ROOT, PROPERTIES, "Get", variant("(ss)", MANAGER, "Nope"), busnames.UNKNOWN_PROPERTY, "'Nope'"),
        (ROOT, PROPERTIES, "Get", variant("(ss)", "com.example.X", "Nope"), busnames.UNKNOWN_INTERFACE, "com.example"),
        (
            ROOT,
            PROPERTIES,
            "Set",
            variant("(ssv)", MANAGER, "Online", GLib.Variant("b", False)),
            busnames.PROPERTY_READ_ONLY,
            "Online",
        ),
    ],
)
def test_what_is_wrong_is_named(
    bus_service: ServiceThread,
    caller: Caller,
    path: str,
    interface: str | None,
    method: str,
    arguments: Any,
    name: str,
    words: str,
) -> None:
    said, sentence = caller.error(path, interface, method, arguments)
    assert said == (name if "." in name else busnames.ERROR_PREFIX + name)
    assert words in sentence
    assert bus_service.control.entries == []


def test_an_error_of_the_manager_keeps_its_kind(bus_service: ServiceThread, caller: Caller) -> None:
    bus_service.control.fail_with = DiskFull("no room in the FileStore")
    said = caller.error(ROOT, MANAGER, "PauseAll")
    assert said == ("org.dmedia.Transfer1.Error.DiskFull", "no room in the FileStore")


def test_a_fault_of_ours_is_logged_and_told_without_details(
    bus_service: ServiceThread,
    caller: Caller,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus_service.control.fail_with = RuntimeError("a secret path")
    name, sentence = caller.error(ROOT, MANAGER, "PauseAll")
    assert name == "org.dmedia.Transfer1.Error.Internal"
    assert "secret" not in sentence
    assert "a secret path" in caplog.text
    assert caller.call(ROOT, MANAGER, "PauseAll") == (True,)


# Properties, objects, signals.


def test_the_manager_shows_itself(bus_service: ServiceThread, caller: Caller) -> None:
    bus_service.do(
        lambda: bus_service.control.change_summary(download_rate=12.7, problems=("p",), upload_limit_bps=9.0)
    )
    (shown,) = caller.call(ROOT, PROPERTIES, "GetAll", variant("(s)", MANAGER))
    assert shown["DownloadRate"] == 12
    assert shown["Problems"] == ["p"]
    assert shown["UploadLimit"] == 9
    assert shown["DownloadLimit"] == 0
    assert shown["Online"] is True
    assert re.match(r"\d+\.\d+", shown["Version"])
    assert caller.call(ROOT, PROPERTIES, "Get", variant("(ss)", MANAGER, "MaxTransfers")) == (4,)
    assert caller.call(ROOT, PROPERTIES, "GetAll", variant("(s)", PROPERTIES)) == ({},)


def test_a_transfer_shows_itself(bus_service: ServiceThread, caller: Caller) -> None:
    transfer = Transfer(
        key=UPLOAD,
        status=Status.SUSPENDED,
        reason=Reason.NO_SOURCE,
        priority=10,
        progress=Progress(5, 2**40, 1.9, 3.1),
        requested_by="me",
    )
    bus_service.do(lambda: bus_service.control.add(transfer))
    (shown,) = caller.call(path_of(UPLOAD), PROPERTIES, "GetAll", variant("(s)", TRANSFER))
    assert shown == {
        "FileId": FILE_ID,
        "StoreId": STORE_ID,
        "Direction": "upload",
        "Status": "suspended",
        "Reason": "no-source",
        "BytesDone": 5,
        "BytesTotal": 2**40,
        "Rate": 1,
        "Eta": 4,
        "Priority": 10,
        "Order": 0.0,
        "Metered": False,
        "Error": "",
        "RequestedBy": "me",
        "Sources": [],
    }
    objects = caller.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")[0]
    assert objects[path_of(UPLOAD)][TRANSFER] == shown


def test_the_life_of_a_transfer_is_heard_in_order(bus_service: ServiceThread, caller: Caller) -> None:
    path = queue_download(caller)

    def live() -> None:
        bus_service.control.on(DOWNLOAD, Event.START)
        bus_service.control.move(DOWNLOAD, 10, 10)
        bus_service.control.on(DOWNLOAD, Event.FINISH)

    bus_service.do(live)
    life = [
        (path, "PropertiesChanged"),
        (path, "Progress"),
        (path, "PropertiesChanged"),
        (path, "Finished"),
    ]
    caller.heard(7)
    assert [(where, member) for where, member, _ in caller.signals][:2] == [
        (ROOT, "InterfacesAdded"),
        (ROOT, "TransferAdded"),
    ]
    assert [(where, member) for where, member, _ in caller.signals if where == path] == life
    assert (path, "Finished", ("done",)) in caller.signals
    caller.signals.clear()
    bus_service.do(lambda: bus_service.control.remove(DOWNLOAD))
    caller.heard(2)
    assert (ROOT, "TransferRemoved", (path, "done")) in caller.signals
    assert any(member == "InterfacesRemoved" and path in arguments for _, member, arguments in caller.signals)


def test_what_is_active_and_queued_is_told(bus_service: ServiceThread, caller: Caller) -> None:
    queue_download(caller)
    caller.heard(3)
    caller.signals.clear()
    bus_service.do(lambda: bus_service.control.on(DOWNLOAD, Event.START))
    caller.heard(2)
    assert (ROOT, "PropertiesChanged", (MANAGER, {"Active": 1, "Queued": 0}, [])) in caller.signals


# The XML is the contract.


def shape(interface: ElementTree.Element) -> list[tuple[Any, ...]]:
    """All that programs rely on, without comments and white space."""
    found: list[tuple[Any, ...]] = []
    for member in interface:
        arguments = [(each.attrib["name"], each.attrib["type"], each.get("direction")) for each in member.iter("arg")]
        notes = [(each.attrib["name"], each.attrib["value"]) for each in member.iter("annotation")]
        found.append((member.tag, sorted(member.attrib.items()), arguments, notes))
    return found


def introspect(caller: Caller, path: str) -> ElementTree.Element:
    return ElementTree.fromstring(caller.call(path, busnames.INTROSPECTABLE, "Introspect")[0])


@pytest.mark.parametrize(
    ("name", "key"), [(MANAGER, None), (TRANSFER, DOWNLOAD), (TRANSFER, UPLOAD), (JOB, VERIFICATION.key)]
)
def test_introspection_says_what_the_xml_says(
    bus_service: ServiceThread,
    caller: Caller,
    name: str,
    key: TransferKey | JobKey | None,
) -> None:
    if key:
        add(bus_service, key)
    (written,) = [each for each in ElementTree.parse(XML).getroot() if each.get("name") == name]
    told = [each for each in introspect(caller, path_of(key) if key else ROOT) if each.get("name") == name]
    assert [shape(each) for each in told] == [shape(written)]


SAMPLES = {"s": FILE_ID, "a{sv}": {}, "as": [FILE_ID], "i": 5, "b": True, "u": 7, "o": "/", "ao": [path_of(DOWNLOAD)]}


@pytest.mark.parametrize(
    ("interface", "method"),
    [
        (interface.attrib["name"], method.attrib["name"])
        for interface in ElementTree.parse(XML).getroot()
        for method in interface.iter("method")
    ],
)
def test_every_method_of_the_xml_answers_with_its_types(
    bus_service: ServiceThread,
    caller: Caller,
    interface: str,
    method: str,
) -> None:
    add(bus_service, DOWNLOAD)
    job = bus_service.do(lambda: bus_service.jobs.add(VERIFICATION))
    bus_service.do(lambda: bus_service.jobs.find(job.id, corrupt(FILE_ID, STORE_ID, 3)))
    path = {MANAGER: ROOT, TRANSFER: path_of(DOWNLOAD), JOB: path_of(job.key)}[interface]
    (element,) = ElementTree.parse(XML).getroot().findall(f"interface[@name='{interface}']/method[@name='{method}']")
    arguments = [each for each in element.iter("arg") if each.attrib["direction"] == "in"]
    samples = {"store_id": STORE_ID, "paths": ["/film"]}
    values = [samples.get(each.attrib["name"], SAMPLES[each.attrib["type"]]) for each in arguments]
    takes = "".join(each.attrib["type"] for each in arguments)
    reply = caller.connection.call_sync(
        BUS_NAME, path, interface, method, variant(f"({takes})", *values), None, Gio.DBusCallFlags.NONE, 10_000, None
    )
    returns = "".join(each.attrib["type"] for each in element.iter("arg") if each.attrib["direction"] == "out")
    assert reply.get_type_string() == f"({returns})"


@pytest.mark.parametrize(("name", "key"), [(MANAGER, None), (TRANSFER, DOWNLOAD), (JOB, VERIFICATION.key)])
def test_every_property_of_the_xml_is_there_with_its_type(
    bus_service: ServiceThread,
    caller: Caller,
    name: str,
    key: TransferKey | JobKey | None,
) -> None:
    if key:
        add(bus_service, key)
    (written,) = [each for each in ElementTree.parse(XML).getroot() if each.get("name") == name]
    reply = caller.connection.call_sync(
        BUS_NAME,
        path_of(key) if key else ROOT,
        PROPERTIES,
        "GetAll",
        variant("(s)", name),
        None,
        Gio.DBusCallFlags.NONE,
        10_000,
        None,
    ).get_child_value(0)
    shown = {}
    for index in range(reply.n_children()):
        entry = reply.get_child_value(index)
        value = entry.get_child_value(1).get_variant()
        shown[entry.get_child_value(0).get_string()] = value.get_type_string()
    assert shown == {each.attrib["name"]: each.attrib["type"] for each in written.iter("property")}


def test_all_nodes_are_found_from_the_top(bus_service: ServiceThread, caller: Caller) -> None:
    add(bus_service, DOWNLOAD, UPLOAD, VERIFICATION.key)

    def below(path: str) -> Iterator[str]:
        yield path
        for node in introspect(caller, path).findall("node"):
            yield from below(path.rstrip("/") + "/" + node.attrib["name"])

    assert {path_of(DOWNLOAD), path_of(UPLOAD), path_of(VERIFICATION.key), ROOT} <= set(below("/"))


def test_busctl_shows_tree_and_interfaces(bus_service: ServiceThread, caller: Caller) -> None:
    path = queue_download(caller)
    busctl = ["busctl", f"--address={bus_service.bus.address}"]
    tree = subprocess.run([*busctl, "tree", BUS_NAME], capture_output=True, text=True, timeout=20, check=True)
    assert path in tree.stdout
    shown = subprocess.run(
        [*busctl, "introspect", BUS_NAME, path], capture_output=True, text=True, timeout=20, check=True
    )
    assert re.search(r"\.Status +property +s +\"queued\" +emits-change", shown.stdout)
    assert re.search(r"\.FileId +property +s .* const", shown.stdout)


# What a caller may throw at it.

leaf_values = (
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=60).map(
        lambda value: GLib.Variant("s", value)
    )
    | st.integers(-(2**31), 2**31 - 1).map(lambda value: GLib.Variant("i", value))
    | st.integers(0, 2**64 - 1).map(lambda value: GLib.Variant("t", value))
    | st.floats().map(lambda value: GLib.Variant("d", value))
    | st.booleans().map(lambda value: GLib.Variant("b", value))
    | st.binary(max_size=10).map(lambda value: GLib.Variant("ay", value))
)
names = st.sampled_from(["priority", "only", "paused", "metered", "requested_by", "download_bps", "x", ""])
dictionaries = st.dictionaries(names, leaf_values, max_size=3).map(lambda value: GLib.Variant("a{sv}", value))
any_values = leaf_values | dictionaries | leaf_values.map(lambda value: GLib.Variant("v", value))
methods = st.sampled_from(
    [(MANAGER, each) for each in ("QueueDownload", "QueueUpload", "QueueDownloads", "Resolve", "SetLimits")]
    + [(PROPERTIES, each) for each in ("Get", "GetAll", "Set")]
    + [(TRANSFER, each) for each in ("SetPriority", "Pause")]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(methods, st.lists(any_values, max_size=4), st.sampled_from([ROOT, path_of(DOWNLOAD), f"{ROOT}/downloads"]))
def test_nonsense_is_refused_cleanly_and_changes_nothing(
    bus_service: ServiceThread,
    caller: Caller,
    method: tuple[str, str],
    arguments: list[Any],
    path: str,
) -> None:
    bus_service.do(bus_service.control.reset)
    bus_service.do(bus_service.jobs.reset)
    error = caller.error_of(path, *method, GLib.Variant.new_tuple(*arguments))
    if error is not None:
        assert error[0].startswith(("org.freedesktop.DBus.Error.", busnames.ERROR_PREFIX))
        assert not error[0].endswith(".Internal"), error
        assert bus_service.control.entries == []
        assert bus_service.control.limits == []
        assert not bus_service.jobs.jobs()
        assert bus_service.jobs.healed == []


# Long jobs.


def test_a_job_lives_on_the_bus(bus_service: ServiceThread, caller: Caller) -> None:
    arguments = variant("(asa{sv})", ["/pictures"], {"requested_by": GLib.Variant("s", "camera")})
    (path,) = caller.call(ROOT, MANAGER, "Import", arguments)
    (job_id,) = bus_service.jobs.jobs()
    assert path == f"{ROOT}/jobs/{job_id}"
    (objects,) = caller.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")
    assert objects[path][JOB]["Paths"] == ["/pictures"]
    assert objects[path][JOB]["RequestedBy"] == "camera"
    assert caller.call(path, JOB, "Pause") == (True,)
    assert caller.call(path, JOB, "Pause") == (False,)
    assert caller.call(path, PROPERTIES, "Get", variant("(ss)", JOB, "Status")) == ("paused",)
    caller.call(path, JOB, "Resume")

    def live() -> None:
        bus_service.jobs.on(job_id, Event.START)
        bus_service.jobs.move(job_id, progress=Progress(5, 10), files_done=1)
        bus_service.jobs.find(job_id, corrupt(FILE_ID, STORE_ID, 3))
        bus_service.jobs.on(job_id, Event.FINISH)
        bus_service.jobs.remove(job_id)

    caller.signals.clear()
    bus_service.do(live)
    caller.heard(11)
    told = [(member, arguments) for where, member, arguments in caller.signals if where == path]
    assert [member for member, _ in told][-3:] == ["Progress", "PropertiesChanged", "Finished"]
    assert (5, 10) in [arguments for member, arguments in told if member == "Progress"]
    assert any(arguments[1].get("Problems") == 1 for member, arguments in told if member == "PropertiesChanged")
    assert (ROOT, "JobRemoved", (path, "done")) in caller.signals
    assert caller.error_of(path, JOB, "Pause") == (busnames.UNKNOWN_OBJECT, f"there is no object {path}")


def test_what_a_job_has_found_is_listed(bus_service: ServiceThread, caller: Caller) -> None:
    add(bus_service, VERIFICATION.key)
    problem = corrupt(FILE_ID, STORE_ID, 3, 4)
    bus_service.do(lambda: bus_service.jobs.find(VERIFICATION.id, problem))
    rows = caller.call(path_of(VERIFICATION.key), JOB, "ListProblems", variant("(uu)", 0, 10))[0]
    assert rows == [("corrupt", "it is corrupt", "", FILE_ID, STORE_ID, [3, 4])]
    assert caller.call(path_of(VERIFICATION.key), JOB, "ListProblems", variant("(uu)", 1, 10)) == ([],)


def test_a_file_is_healed_by_one_call(bus_service: ServiceThread, caller: Caller) -> None:
    assert caller.call(ROOT, MANAGER, "Heal", variant("(s)", FILE_ID)) == (path_of(DOWNLOAD),)
    assert bus_service.jobs.healed == [FILE_ID]


# The name.


def test_a_second_daemon_is_told_that_one_is_running(bus_service: ServiceThread, caller: Caller) -> None:
    def second() -> str:
        connection = bus_service.bus.connect()
        control = FakeControl()
        try:
            with pytest.raises(NameTaken) as caught:
                BusService(control, connection, jobs=FakeJobs()).publish()
        finally:
            connection.close()
        return str(caught.value)

    assert "already running" in bus_service.do(second)
    assert caller.call(ROOT, MANAGER, "PauseAll") == (True,)


# Many.


def test_a_thousand_transfers_cost_little(bus_service: ServiceThread, caller: Caller) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    ids = [f"{alphabet[number // 32]}{alphabet[number % 32]}".rjust(48, "A") for number in range(1000)]
    spent = [bus_service.do(time.thread_time)]
    (paths,) = caller.call(ROOT, MANAGER, "QueueDownloads", variant("(asa{sv})", ids, {}))
    spent.append(bus_service.do(time.thread_time))
    (objects,) = caller.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")
    spent.append(bus_service.do(time.thread_time))
    for path in paths[:100]:
        caller.call(path, PROPERTIES, "GetAll", variant("(s)", TRANSFER))
    spent.append(bus_service.do(time.thread_time))
    assert len(set(paths)) == len(objects) == 1000
    queued_s, listed_s, asked_s = (after - before for before, after in pairwise(spent))
    milliseconds = [round(each * 1000) for each in (queued_s, listed_s, asked_s)]
    print("CPU in ms: queue 1000, list them, ask for 100 of them:", milliseconds)
    assert queued_s < 1.0
    assert listed_s < 0.3
    assert asked_s < 0.3


def test_fifty_that_move_at_once_make_ten_signals_a_second(bus_service: ServiceThread, caller: Caller) -> None:
    keys = [
        TransferKey(Direction.DOWNLOAD, chr(ord("A") + number % 26) * 24 + "A" * 23 + "AB"[number // 26], "")
        for number in range(50)
    ]
    add(bus_service, *keys)

    def move_all(step: int) -> None:
        for key in keys:
            bus_service.control.move(key, step, 1000)

    bus_service.do(partial(move_all, 1))
    caller.heard(1000, within_s=1.5)
    caller.signals.clear()
    started_s = time.monotonic()
    for step in range(2, 32):
        bus_service.do(partial(move_all, step))
        caller.heard(1000, within_s=0.05)
    elapsed_s = time.monotonic() - started_s
    assert len(caller.signals) <= 10 * (elapsed_s + 1)
    assert len(caller.signals) >= 6 * elapsed_s - 10
    summaries = [arguments[0] for path, member, arguments in caller.signals if (path, member) == (ROOT, "Progress")]
    assert max(len(moved) for moved in summaries) == 50
    caller.heard(1000, within_s=1.0)
    last = [arguments[0] for path, member, arguments in caller.signals if (path, member) == (ROOT, "Progress")][-1]
    assert {done for _, done, _ in last} == {31}


# The main loop.


def test_a_call_can_be_put_off_and_taken_back(bus_service: ServiceThread) -> None:
    calls: list[tuple[str, bool]] = []
    done = threading.Event()
    thread = bus_service.do(threading.current_thread)

    def note(name: str) -> None:
        calls.append((name, threading.current_thread() is thread))

    started_s = time.monotonic()
    mainloop.call_later(0.1, partial(note, "later"))
    mainloop.call_later(0.05, partial(note, "taken back"))()
    mainloop.call_soon(partial(note, "soon"))
    mainloop.call_later(0.15, done.set)
    assert done.wait(10)
    assert time.monotonic() - started_s >= 0.15
    assert calls == [("soon", True), ("later", True)]


def test_calls_that_come_in_a_crowd_keep_their_order_and_one_that_fails_holds_up_no_other(
    bus_service: ServiceThread,
) -> None:
    calls: list[int] = []
    done = threading.Event()

    def fail() -> None:
        raise ValueError("a fault that the test makes")

    for number in range(5000):
        mainloop.call_soon(partial(calls.append, number))
        if number == 2500:
            mainloop.call_soon(fail)
    mainloop.call_soon(done.set)
    assert done.wait(30)
    assert calls == list(range(5000))
