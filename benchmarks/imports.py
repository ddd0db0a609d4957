"""A folder of large files into the library, hashed and copied, beside `cp` and then `sha256sum`.

`dmedia-transfer import` is run as a person runs it: a program that starts, imports and ends. Beside it a shell that
copies the folder and hashes the copy, which is what one does without us, with `sha256sum` and again with OpenSSL, which
knows the processor's own instructions for it, as we do. Files are on the disk of temporary files.

Where root may mount one, the same once more on a file system that shares blocks (btrfs, on an image in a file): there
an import copies nothing and should cost what hashing costs.

    python -m benchmarks.imports [--files 4] [--size-mib 256] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.common import MIB, RunFailed, Usage, measure, reports
from benchmarks.stage import Stage, payload_folder, stage
from benchmarks.turns import Turn, take_turns
from dmedia_transfer import leaves
from tests.factories import content

OURS: Final = "dmedia-transfer import"
SHA256SUM: Final = "cp, then sha256sum"
OPENSSL: Final = "cp, then openssl sha256"
REFLINK: Final = "cp --reflink, then openssl sha256"
HASHING: Final = "openssl sha256 alone"
NOBODY: Final = "http://127.0.0.1:9"  # an import asks no store


def imported(on: Stage, source: Path, total: int) -> Turn:
    """Our turn: an import into a library that does not know the files."""
    device = on.device
    command = [sys.executable, "-m", "dmedia_transfer.cli", "import", str(source)]

    def turn() -> Usage:
        shutil.rmtree(device.store_dir / "files")
        (device.store_dir / "files").mkdir()
        for raw in _files(on):
            with device.http() as (session, url):
                session.delete(f"{url}/{raw['_id']}", params={"rev": raw["_rev"]}, timeout=60).raise_for_status()
        usage = measure(command, environment=device.env, inherit=False)
        there = sum(path.stat().st_size for path in (device.store_dir / "files").rglob("*") if path.is_file())
        if (there, len(_files(on))) != (total, len(list(source.iterdir()))):
            raise RunFailed(f"{OURS}: {there} of {total} bytes are there")
        return replace(usage, payload_bytes=total)

    return turn


def _files(on: Stage) -> list[dict[str, Any]]:
    with on.device.http() as (session, url):
        answer = session.get(f"{url}/_all_docs", params={"include_docs": "true"}, timeout=60)
        answer.raise_for_status()
        return [row["doc"] for row in answer.json()["rows"] if row["doc"].get("type") == "dmedia/file"]


def shell(script: str, folder: Path, total: int) -> Turn:
    """A turn of others: a script in the folder, which may make a copy there."""

    def turn() -> Usage:
        shutil.rmtree(folder / "copy", ignore_errors=True)
        usage = measure(["sh", "-ec", f"cd {folder}; {script}"])
        return replace(usage, payload_bytes=total)

    return turn


@contextlib.contextmanager
def sharing(folder: Path, size: int) -> Iterator[Path | None]:
    """A mounted file system that shares blocks, in a file; None where that cannot be had."""
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    try:
        for command in (["mkfs.btrfs", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mount)]):
            subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        print(f"no file system that shares blocks: {''.join(said)}", file=sys.stderr)
        yield None
        return
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def fill(folder: Path, count: int, size: int) -> Path:
    """A folder of files that nobody has seen."""
    source = folder / "source"
    source.mkdir()
    for number in range(count):
        with (source / f"film-{number}.mkv").open("wb") as file:
            for start in range(0, size, leaves.LEAF_BYTES):
                file.write(content(min(leaves.LEAF_BYTES, size - start), seed=number * 10_000_000_000 + start))
    return source


def contest(folder: Path, count: int, size: int, rounds: int, others: dict[str, str]) -> dict[str, list[Usage]]:
    """All rounds in one folder."""
    source, total = fill(folder, count, size), count * size
    with stage(NOBODY, payload=folder) as on:
        turns = {OURS: imported(on, source, total)}
        turns |= {name: shell(script, folder, total) for name, script in others.items()}
        return take_turns(turns, rounds=rounds)


def run(count: int, size: int, rounds: int) -> dict[str, dict[str, list[Usage]]]:
    """On the disk of temporary files, and where blocks are shared."""
    hashed = "openssl dgst -sha256 copy/*"
    plain = {SHA256SUM: "cp -r source copy; sha256sum copy/*", OPENSSL: f"cp -r source copy; {hashed}"}
    alone = {HASHING: "openssl dgst -sha256 source/*"}
    results: dict[str, dict[str, list[Usage]]] = {}
    title = f"import of {count} files of {size // MIB} MiB"
    with payload_folder(4 * count * size) as folder:
        results[title] = contest(folder, count, size, rounds, plain | alone)
    with payload_folder(3 * count * size) as folder, sharing(folder, 3 * count * size + 1024 * MIB) as mount:
        if mount is not None:
            others = {REFLINK: f"cp -r --reflink=always source copy; {hashed}", **alone}
            results[f"{title}, on a file system that shares blocks"] = contest(mount, count, size, rounds, others)
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--size-mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    reports(run(options.files, options.size_mib * MIB, options.rounds), as_json_text=options.json)


if __name__ == "__main__":
    main()
