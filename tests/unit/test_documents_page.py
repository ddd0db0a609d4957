"""docs/documents.md says what the code does: its examples are read, its hashes made again, its tables compared."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import documents, leaves, statusdoc
from dmedia_transfer.model import Direction, Entry
from dmedia_transfer.states import Reason, Status

PAGE = (Path(__file__).parent.parent.parent / "docs" / "documents.md").read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
VECTORS = re.findall(r"^\| `(.+?)` \| (\d+) \| `([A-Z2-7]{48})` \|$", PAGE, re.MULTILINE)


def examples(kind: str) -> list[dict[str, Any]]:
    found = [example for example in EXAMPLES if example["type"] == kind]
    assert found, f"the page has no example of {kind}"
    return found


def table(section: str, heading: str) -> dict[str, str]:
    """Of a table after the heading of a section: the words in the first column, and what the second says of them."""
    lines = PAGE.partition(f"\n{section}\n")[2].partition(f"| {heading} |")[2].splitlines()[2:]
    rows = [line.strip("|").split("|") for line in itertools.takewhile(bool, lines)]
    return {word: row[1].strip() for row in rows for word in re.findall(r"`([^`]+)`", row[0])}


def test_every_example_is_of_a_type_that_is_read() -> None:
    known = {documents.FILE, documents.STORE, documents.MACHINE, documents.TRANSFERS}
    assert {example["type"] for example in EXAMPLES} == known
    assert all(isinstance(example["time"], int) and example["ver"] == 0 for example in EXAMPLES)


def test_the_file_is_read_and_its_leaves_make_its_id() -> None:
    for example in examples(documents.FILE):
        view = documents.read_file(example)
        spec = documents.file_spec(view, documents.inline_leaves(example))
        assert (spec.size, spec.ext, spec.mime) == (1, "mp4", "video/mp4")
        assert sorted((line.copies, line.corrupt) for line in view.stored.values()) == [(0, [0]), (1, None)]


def test_the_stores_are_read() -> None:
    bucket, disk = examples(documents.STORE)
    assert documents.read_store(bucket).plugin == "s3"
    assert documents.read_s3_settings(bucket).bucket == "family-films"
    assert documents.read_store(disk).machine_id == examples(documents.MACHINE)[0]["_id"]


def test_the_machine_is_read_with_every_form_of_an_entry() -> None:
    (example,) = examples(documents.MACHINE)
    queue = documents.read_queue(documents.read_machine(example))
    assert queue.problems == ()
    file_id = queue.entries[0].file_id
    assert [each.direction for each in queue.entries] == ["download", "upload", "download", "download"]
    assert queue.entries[2] == queue.entries[3] == Entry(file_id, Direction.DOWNLOAD)
    assert documents.write_entry(queue.entries[0]).items() <= {**example["queue"][0]}.items()


def test_what_a_machine_does_is_read() -> None:
    (example,) = examples(documents.TRANSFERS)
    status = statusdoc.read_status(example)
    assert example["_id"] == statusdoc.transfers_id(status.machine_id)
    assert status.transfers[0].status is Status.ONGOING
    assert {*table("## `dmedia/transfers`", "key")} >= {*status.model_dump(exclude={"machine_id"})}


TABLES: list[tuple[str, str, list[Any]]] = [
    ("## `dmedia/file`", "key", [documents.FileDocument]),
    ("## `dmedia/store`", "key", [documents.StoreDocument, documents.S3Settings]),
    ("## `dmedia/machine`", "key", [documents.MachineDocument]),
    ("## `dmedia/machine`", "key of an entry", [documents._EntryView]),
]


@pytest.mark.parametrize(("section", "heading", "views"), TABLES)
def test_the_tables_name_every_key_with_its_default(section: str, heading: str, views: list[Any]) -> None:
    rows = table(section, heading)
    for view in views:
        for name, field in view.model_fields.items():
            if field.alias:
                continue  # `_id` and `_rev`, which all documents have
            default = field.get_default(call_default_factory=True)
            if field.is_required():
                assert rows[name].startswith("required"), name
            elif default is not None and name != "store_id":
                assert rows[name] == f"`{json.dumps(int(default) if type(default) is float else default)}`", name
            else:
                assert not rows[name].startswith("required"), name


def test_all_statuses_and_reasons_are_on_the_page_and_no_others() -> None:
    assert list(table("## Statuses and reasons", "reason")) == list(Reason)
    # The second column tells what it means, and the third may name another status; the first is all of them.
    rows = PAGE.partition("| status |")[2].partition("| reason |")[0]
    assert re.findall(r"^\| `([a-z]+)` \|", rows, re.MULTILINE) == list(Status)


@pytest.mark.parametrize(("command", "size", "file_id"), VECTORS)
def test_the_shell_on_the_page_makes_the_ids_on_the_page(tmp_path: Path, command: str, size: str, file_id: str) -> None:
    (function,) = re.findall(r"```sh\n(file_id\(\).*?)```", PAGE, re.DOTALL)
    script = f"{command.replace(chr(92) + '|', '|')} >content\n{function}\nfile_id content"
    made = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert made.stdout == file_id
    data = (tmp_path / "content").read_bytes()
    assert len(data) == int(size)
    digests = [leaves.leaf_digest(data[at : at + leaves.LEAF_BYTES]) for at in range(0, len(data), leaves.LEAF_BYTES)]
    assert leaves.file_id(b"".join(digests)) == file_id


def test_the_steps_on_the_page_are_the_steps_of_the_last_vector() -> None:
    data = (b"dmedia\n" * 3_000_000)[: int(VECTORS[-1][1])]
    cut = [data[at : at + leaves.LEAF_BYTES] for at in range(0, len(data), leaves.LEAF_BYTES)]
    rows = re.findall(r"^\| (\d) \| (\d+) \| `([0-9a-f]{64})` \|$", PAGE, re.MULTILINE)
    assert rows == [(str(at), str(len(leaf)), hashlib.sha256(leaf).hexdigest()) for at, leaf in enumerate(cut)]
    packed = b"".join(hashlib.sha256(leaf).digest() for leaf in cut)
    assert f"| all three digests | 96 | `{leaves.file_digest(packed).hex()}` |" in PAGE


def test_there_are_vectors_of_less_than_a_leaf_a_leaf_and_more() -> None:
    sizes = [int(size) for _, size, _ in VECTORS]
    assert sizes == [1, leaves.LEAF_BYTES, leaves.LEAF_BYTES + 1, 20_000_000]
