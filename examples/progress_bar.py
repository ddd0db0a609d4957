"""Ask for a file, and show its progress until it is here.

    python examples/progress_bar.py FILE_ID

The file comes before all others. Ctrl-C ends the bar and not the download: the daemon goes on with it.
"""

from __future__ import annotations

import argparse
import sys

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from dmedia_transfer.client import Client, TransferState
from dmedia_transfer.errors import TransferError
from dmedia_transfer.states import Status

COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    DownloadColumn(),
    TransferSpeedColumn(),
    TimeRemainingColumn(),
)


def main() -> int:
    """Download, and say how it goes."""
    parser = argparse.ArgumentParser(description="Download a file with dmedia-transfer, with a progress bar.")
    parser.add_argument("file_id")
    file_id = parser.parse_args().file_id
    try:
        with Client() as client:
            there = client.resolve(file_id)
            if not there.path:
                transfer = client.queue_download(file_id, priority="now", requested_by="progress_bar.py")
                with Progress(*COLUMNS) as progress:
                    bar = progress.add_task("waiting", total=None)

                    def show(state: TransferState) -> None:
                        progress.update(
                            bar,
                            description=f"{state.status} {state.reason or ''}",
                            completed=state.progress.bytes_done,
                            total=state.progress.bytes_total or None,
                        )

                    end = transfer.wait(on_progress=show)
                if end.status is not Status.DONE:
                    print(f"{end.status}: {end.error}", file=sys.stderr)
                    return 1
                there = client.resolve(file_id)
    except TransferError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("the download goes on without us", file=sys.stderr)
        return 130
    print(there.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
