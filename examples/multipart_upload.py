"""Send a file, or what comes through a pipe, to S3 in parts, with breaks.

    python examples/multipart_upload.py film.mkv my-bucket films/film.mkv
    tar -c films | python examples/multipart_upload.py - my-bucket films.tar

Ctrl-C pauses: parts in flight finish, and the session is kept in a file. The same command goes on, maybe after a
restart of the machine, and sends no part again. A pipe cannot go back, so it has to be cut to what is missing: at the
pause you are told how. Credentials come from where boto3 always finds them.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from pathlib import Path

import boto3

from dmedia_transfer import MultipartUpload
from dmedia_transfer.multipart import Failed, PartSent, Paused, Pausing, Ready, Session, Uploaded

MIB = 1024 * 1024
UPLOADED, FAILED, PAUSED = 0, 1, 3  # exit codes


def main() -> int:
    """Upload, and say how it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, or - for what comes through a pipe")
    parser.add_argument("bucket")
    parser.add_argument("key")
    parser.add_argument("--session", type=Path, default=Path("upload.json"), help="where a paused upload is kept")
    parser.add_argument("--endpoint-url", help="of an S3-compatible server")
    parser.add_argument("--part-mib", type=int, default=8)
    options = parser.parse_args()

    upload = MultipartUpload(
        boto3.client("s3", endpoint_url=options.endpoint_url),
        options.bucket,
        options.key,
        sys.stdin.buffer if options.source == "-" else options.source,
        part_bytes=options.part_mib * MIB,
        session=json.loads(options.session.read_text()) if options.session.exists() else None,
    )
    ended = threading.Event()
    exit_codes: list[int] = []

    def end(exit_code: int) -> None:
        exit_codes.append(exit_code)
        ended.set()

    def ready(event: Ready) -> None:
        print(f"upload {event.upload_id}", flush=True)

    def part(event: PartSent) -> None:
        print(f"part {event.part.number} is there, {event.bytes_sent / MIB:.1f} MiB in all", flush=True)

    def pausing(event: Pausing) -> None:
        print(f"pausing: {event.in_flight} parts are in flight", flush=True)

    def paused(event: Paused) -> None:
        options.session.write_text(json.dumps(event.session))
        print(f"paused: {options.session} is where it goes on", flush=True)
        if options.source == "-":
            print(f"the pipe has to go on after byte {Session.read(event.session).bytes_read}", flush=True)
        end(PAUSED)

    def uploaded(event: Uploaded) -> None:
        options.session.unlink(missing_ok=True)
        print(f"uploaded: {event.bytes_sent} bytes", flush=True)
        end(UPLOADED)

    def failed(event: Failed) -> None:
        options.session.write_text(json.dumps(upload.session()))  # what has arrived need not be sent again
        print(f"failed: {event.error}", file=sys.stderr, flush=True)
        end(FAILED)

    upload.on("ready", ready)
    upload.on("part", part)
    upload.on("pausing", pausing)
    upload.on("paused", paused)
    upload.on("uploaded", uploaded)
    upload.on("error", failed)
    signal.signal(signal.SIGINT, lambda *_: upload.pause())
    upload.start()
    while not ended.wait(0.2):  # so that Python gets to handle a Ctrl-C
        pass
    return exit_codes[0]


if __name__ == "__main__":
    sys.exit(main())
