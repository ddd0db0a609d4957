"""Wait for the end of a transfer, and show how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dmedia_transfer.cli import bars, words
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.client import Transfer
    from dmedia_transfer.client.state import TransferState


def wait_for(transfer: Transfer, labels: Mapping[str, str], *, as_json: bool) -> int:
    """Wait for its end; returns the exit code: 0 if it is done.

    Args:
        transfer: What to wait for.
        labels: What files are called, by their IDs.
        as_json: A line of JSON for each change.
    """
    output = Output(as_json=as_json)
    try:
        with bars.display(output, lambda file_id: labels.get(file_id, words.short(file_id))) as display:

            def show(state: TransferState) -> None:
                display.show({transfer.path: state})

            end = transfer.wait(show)
    except KeyboardInterrupt:
        note(f"the {transfer.key.direction} goes on; `dmedia-transfer cancel` would end it")
        raise
    if end.status is Status.FAILED:
        note(f"the {transfer.key.direction} failed: {end.error or 'without a reason'}")
    return 0 if end.status is Status.DONE else 1
