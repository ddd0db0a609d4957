"""Files to and from a bucket with boto3, as its documentation says and with its defaults.

python boto3_files.py URL BUCKET up|down FOLDER AT_ONCE KEY...     moves FOLDER/KEY, and ends
python boto3_files.py URL BUCKET serve                             reads such lines from stdin, as JSON, and answers
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import boto3


def main(url: str, bucket: str, word: str, *rest: str) -> None:
    """Do it."""
    client = boto3.client("s3", endpoint_url=url)  # the rest is in the environment

    def move(direction: str, folder: str, at_once: str, *keys: str) -> None:
        def one(key: str) -> None:
            if direction == "up":
                client.upload_file(f"{folder}/{key}", bucket, key)
            else:
                client.download_file(bucket, key, f"{folder}/{key}")

        run(one, keys, int(at_once))

    if word != "serve":
        move(word, *rest)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        move(*json.loads(line))
        print("done", flush=True)


def run(one: Callable[[str], None], keys: Sequence[str], at_once: int) -> None:
    """All keys, so many at a time."""
    if at_once == 1:
        for key in keys:
            one(key)
        return
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, keys))


if __name__ == "__main__":
    main(*sys.argv[1:])
