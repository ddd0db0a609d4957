"""Files to and from a bucket with obstore, the Rust library object_store for Python.

    python obstore_files.py URL BUCKET up|down FOLDER AT_ONCE KEY...

It has no function that downloads into a file: here eight ranges at a time are asked for and written where they belong.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.store import S3Store

PART_BYTES = 8 * 1024 * 1024
RANGES_AT_ONCE = 8


def main(url: str, bucket: str, direction: str, folder: str, at_once: str, *keys: str) -> None:
    """Do it."""
    store = S3Store(
        bucket,
        endpoint=url,
        access_key_id="benchmark",
        secret_access_key="benchmark-secret",
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )

    def upload(key: str) -> None:
        obstore.put(store, key, Path(folder, key), chunk_size=PART_BYTES)

    with ThreadPoolExecutor(int(at_once)) as files, ThreadPoolExecutor(RANGES_AT_ONCE) as ranges:

        def download(key: str) -> None:
            size = obstore.head(store, key)["size"]
            file = os.open(Path(folder, key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.posix_fallocate(file, 0, size)

                def one(start: int) -> None:
                    data = obstore.get_range(store, key, start=start, length=min(PART_BYTES, size - start))
                    os.pwrite(file, data, start)

                list(ranges.map(one, range(0, size, PART_BYTES)))
            finally:
                os.close(file)

        list(files.map(upload if direction == "up" else download, keys))


if __name__ == "__main__":
    main(*sys.argv[1:])
