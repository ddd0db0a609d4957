from __future__ import annotations

import math
from typing import Any

import dbus
import dbus.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer.bus import values
from dmedia_transfer.bus.contract import interfaces
from dmedia_transfer.busnames import MANAGER, TRANSFER
from dmedia_transfer.errors import InvalidRequest
from dmedia_transfer.model import Direction, Failure, Progress, SourceState, SourceUse, Transfer, TransferKey
from dmedia_transfer.states import Reason, Status
from tests.control import EMPTY
from tests.factories import STORE_ID

FILE_ID = "F" * 48


def options(**sent: Any) -> values.DownloadOptions:
    return values.read_options(values.DownloadOptions, sent)


@pytest.mark.parametrize(
    ("sent", "number"),
    [
        ("low", -10),
        ("normal", 0),
        ("high", 10),
        ("now", 100),
        (dbus.String("now"), 100),
        (dbus.Int32(7), 7),
        (dbus.UInt64(7), 7),
        (dbus.Byte(7), 7),
        (-3, -3),
    ],
)
def test_a_priority_is_a_number_or_a_word(sent: Any, number: int) -> None:
    assert options(priority=sent).priority == number


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"priority": "soon"}, ["priority", "low, normal, high, now", "'soon'"]),
        ({"priority": dbus.Boolean(True)}, ["priority", "True"]),
        ({"priority": 10**7}, ["priority", "10000000"]),
        ({"priority": 1.5}, ["priority", "1.5"]),
        ({"only": dbus.Int32(1)}, ["only", "1"]),
        ({"paused": "yes"}, ["paused", "'yes'"]),
        ({"requested_by": dbus.Array([], signature="s")}, ["requested_by"]),
        ({"requested_by": "x" * 300}, ["requested_by", "256"]),
        ({"colour": 1, "hue": 2}, ["unknown option", "'colour'", "'hue'", "priority"]),
    ],
)
def test_a_wrong_option_is_named_with_its_value(sent: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        options(**sent)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value)) < 400


def test_limits_that_are_not_named_are_not_touched() -> None:
    limits = values.read_options(values.Limits, {"download_bps": dbus.UInt64(5)})
    assert limits.model_dump(exclude_unset=True) == {"download_bps": 5.0}


@pytest.mark.parametrize(
    "sent", [{"download_bps": -1}, {"max_transfers": 0}, {"connections": "2"}, {"upload_bps": math.nan}, {"speed": 1}]
)
def test_a_wrong_limit_is_named(sent: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(sent))):
        values.read_options(values.Limits, sent)


@pytest.mark.parametrize("value", ["", "F" * 47, "../" + "F" * 45, "f" * 48, FILE_ID + "\n", 48, None])
def test_what_is_no_file_id_is_shown_with_the_name_of_the_argument(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"file_id: .* is not a file ID"):
        values.file_id("file_id", value)


def test_a_store_may_be_left_out_only_where_that_means_something() -> None:
    assert values.store_id("store_id", "", may_be_empty=True) == ""
    with pytest.raises(InvalidRequest, match="store_id: '' is not a store ID"):
        values.store_id("store_id", "")


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**30), 10**30)
transfers = st.builds(
    Transfer,
    key=st.sampled_from(
        [TransferKey(Direction.DOWNLOAD, FILE_ID, ""), TransferKey(Direction.UPLOAD, FILE_ID, STORE_ID)]
    ),
    status=st.sampled_from(Status),
    reason=st.none() | st.sampled_from(Reason),
    priority=st.integers(-1_000_000, 1_000_000),
    progress=st.builds(
        Progress,
        bytes_done=st.integers(-1, 10**30),
        bytes_total=st.integers(-1, 10**30),
        rate=numbers,
        eta_s=st.none() | numbers,
    ),
    failure=st.none() | st.builds(Failure, kind=st.text(), message=st.text()),
    requested_by=st.text(),
    sources=st.lists(
        st.builds(
            SourceUse,
            store_id=st.text(),
            received_bytes=st.integers(-1, 10**30),
            rate=numbers,
            state=st.sampled_from(SourceState),
            reason=st.text(),
        )
    ).map(tuple),
)


@given(transfers)
def test_any_transfer_can_be_sent_with_the_types_of_the_xml(transfer: Transfer) -> None:
    properties = values.transfer_properties(transfer)
    message = dbus.lowlevel.SignalMessage("/x", "x.y", "Z")
    message.append(properties, signature="a{sv}")
    (received,) = message.get_args_list()
    assert set(received) == set(interfaces()[TRANSFER].properties)
    for name, each in interfaces()[TRANSFER].properties.items():
        single = dbus.lowlevel.SignalMessage("/x", "x.y", "Z")
        single.append(received[name], signature=each.type)
        assert single.get_args_list() == [received[name]]


@pytest.mark.parametrize(
    ("eta_s", "told"),
    [(None, -1), (math.inf, -1), (math.nan, -1), (0.0, 0), (0.2, 1), (3.0, 3), (2.0**63, -1), (2.0**62, 2**62)],
)
def test_seconds_left_are_rounded_up_or_not_known(eta_s: float | None, told: int) -> None:
    transfer = Transfer(TransferKey(Direction.DOWNLOAD, FILE_ID, ""), progress=Progress(eta_s=eta_s))
    assert values.transfer_properties(transfer)["Eta"] == told


@given(
    st.builds(
        type(EMPTY),
        active=st.integers(0, 2**40),
        queued=st.integers(0, 2**40),
        download_rate=numbers,
        upload_rate=numbers,
        queue_paused=st.booleans(),
        online=st.booleans(),
        metered=st.booleans(),
        download_limit_bps=st.none() | numbers,
        upload_limit_bps=st.none() | numbers,
        max_transfers=st.integers(1, 64),
        problems=st.lists(st.text(alphabet=st.characters())).map(tuple),
    )
)
def test_any_summary_can_be_sent(summary: Any) -> None:
    message = dbus.lowlevel.SignalMessage("/x", "x.y", "Z")
    message.append(values.manager_properties(summary), signature="a{sv}")
    (received,) = message.get_args_list()
    assert set(received) == set(interfaces()[MANAGER].properties)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_can_be_sent(text: str) -> None:
    message = dbus.lowlevel.SignalMessage("/x", "x.y", "Z")
    message.append(values.text(text), signature="s")
    assert len(message.get_args_list()) == 1
