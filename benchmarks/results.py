"""RESULTS.md: the targets, a picture and all tables of a run, on what machine, with which versions.

python -m benchmarks.results FILE.json     writes it again from what `python -m benchmarks --json` printed
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common import MIB
from benchmarks.targets import Verdict, verdicts

FOLDER: Final = Path(__file__).parent
Row = Sequence[str]


def document(run: Mapping[str, Any], *, pictures: bool = True) -> str:
    """The page.

    Args:
        run: What `python -m benchmarks --json` tells: `date`, `quick`, `machine`, `results` by benchmark, `failed`.
        pictures: Whether there are some.
    """
    machine, told = run["machine"], run["results"]
    lines = ["# Results", ""]
    if run["quick"]:
        lines += ["**A quick run: small files, few rounds. Nothing here is to be quoted.**", ""]
    lines += [
        f"Written by `make bench` on {run['date']}: {machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_gib']} GiB of memory, {machine['system']}; load {machine['load']} when it began. Client and "
        "server share the cores. How it is measured, and why that is fair: [README](README.md).",
        "",
        ", ".join(f"{name} {version}" for name, version in machine["versions"].items()) + ".",
        "",
    ]
    if run["failed"]:
        lines += [f"**Not measured, because it failed: {', '.join(run['failed'])}.**", ""]
    lines += ["## Targets", "", *targets(verdicts(told)), ""]
    if pictures:
        lines += [
            "## At a glance",
            "",
            "<picture>",
            '  <source media="(prefers-color-scheme: dark)" srcset="results-dark.svg">',
            '  <img alt="Megabytes per second of each program; the tables below have the same figures"'
            ' src="results-light.svg">',
            "</picture>",
            "",
        ]
    for name, found in told.items():
        lines += [f"## {name}", ""]
        for title, header, rows in tables(found):
            lines += [*([f"**{title}**", ""] if title else []), *markdown(header, rows), ""]
    return "\n".join(lines)


def targets(found: Iterable[Verdict]) -> list[str]:
    """The table of targets. A line without work continues that of the line before."""
    rows = []
    for verdict in found:
        word = f"**{verdict.word}**" if verdict.word == "missed" else verdict.word
        target = verdict.target
        rows.append((target.work, target.beside, target.wanted, verdict.shown, word))
    return markdown(("work", "beside", "target", "measured", ""), rows, numbers_from=5)


def tables(told: Any) -> list[tuple[str, Row, Sequence[Row]]]:
    """What a benchmark told, as tables: their titles, headers and rows."""
    if isinstance(told, list) and all("results" in each for each in told):
        return [table for each in told for table in tables(each)]
    if isinstance(told, list):
        return [("", *_records(told))]
    found: list[tuple[str, Row, Sequence[Row]]] = []
    for key, value in told.items():
        title = str(told.get("title", "")) if key == "results" else key.replace("_", " ")
        if isinstance(value, list):
            found.append((title, *_records(value)))
        elif isinstance(value, dict) and all(isinstance(each, dict) and "runs" in each for each in value.values()):
            found.append((title, *_usages(value)))
        elif isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
            header, rows = _records(list(value.values()))
            found.append((title, ("", *header), [(name, *row) for name, row in zip(value, rows, strict=True)]))
        elif isinstance(value, dict):
            found.append((title, ("", ""), [(name, _number(each)) for name, each in value.items()]))
        elif isinstance(value, float):
            found.append(("", ("", ""), [(title, _number(value))]))
    return found


def _usages(results: Mapping[str, Mapping[str, Any]]) -> tuple[Row, Sequence[Row]]:
    served = any(each["median"]["server_cpu_s"] for each in results.values())
    paid = any(each["median"]["payload_bytes"] for each in results.values())
    rows = []
    for name, each in results.items():
        middle, walls = each["median"], [run["wall_s"] for run in each["runs"]]
        rows.append(
            (
                name,
                *([f"{middle['mb_per_s']:,.0f}"] if paid else []),
                f"{middle['wall_s']:.2f}",
                f"{min(walls):.2f} – {max(walls):.2f}",
                f"{middle['cpu_s']:.2f}",
                *([f"{middle['server_cpu_s']:.2f}"] if served else []),
                f"{middle['peak_bytes'] / MIB:.0f}",
                str(len(each["runs"])),
            )
        )
    header = ("", *(["MB/s"] if paid else []), "seconds", "best – worst", "CPU s")
    return (*header, *(["server's CPU s"] if served else []), "peak MiB", "rounds"), rows


def _records(told: Sequence[Mapping[str, Any]]) -> tuple[Row, Sequence[Row]]:
    """Values by name, the same names in each."""
    if not told:
        return (), []
    names = list(told[0])
    header = [name.replace("_bytes", "_MiB") if _is_memory(name) else name for name in names]
    rows = [[_number(each[name] / MIB if _is_memory(name) else each[name]) for name in names] for each in told]
    return [each.replace("_per_s", "/s").replace("_", " ") for each in header], rows


def _is_memory(name: str) -> bool:
    return name.endswith("_bytes")


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def markdown(header: Row, rows: Iterable[Row], *, numbers_from: int = 1) -> list[str]:
    """A table; the columns from that one on are numbers."""
    rule = ["---" if number < numbers_from else "---:" for number in range(len(header))]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *rows)]


def write(run: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write page and pictures; returns the page."""
    from benchmarks import picture  # matplotlib is in the extra `bench`

    drawn = picture.draw(run["results"], folder)
    path = folder / "RESULTS.md"
    path.write_text(document(run, pictures=bool(drawn)), encoding="utf-8")
    return path


def main() -> None:
    """Write the page again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what `python -m benchmarks --json` printed")
    print(write(json.loads(parser.parse_args().file.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
