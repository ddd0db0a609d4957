"""The picture of a run: bars of megabytes per second, one for each program, for light and for dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.targets import Told

PANELS: Final = (  # benchmark, a word of its table's title, caption
    ("s3", "download", "S3 download, one file"),
    ("s3", "upload", "S3 upload, one file"),
    ("small", "download", "S3 download, small files"),
    ("small", "upload", "S3 upload, small files"),
    ("peer", "one file of", "from a peer, TLS"),
    ("imports", "MiB", "import: hash and copy"),
)


@dataclass(frozen=True, slots=True)
class Colours:
    """Of one kind of page. The page's own ground shows through."""

    ink: str
    faint: str
    ours: str
    theirs: str


PAGES: Final = {
    "light": Colours(ink="#1f2328", faint="#d1d9e0", ours="#0969da", theirs="#9aa4ae"),
    "dark": Colours(ink="#e6edf3", faint="#3d444d", ours="#4493f8", theirs="#6e7681"),
}


def panels(told: Told) -> list[tuple[str, Mapping[str, Any]]]:
    """Caption and results of each panel that there are figures for."""
    return [
        (caption, table["results"])
        for benchmark, word, caption in PANELS
        for table in [next((each for each in told.get(benchmark, ()) if word in each["title"]), None)]
        if table is not None
    ]


def draw(told: Told, folder: Path) -> list[Path]:
    """Write `results-light.svg` and `results-dark.svg`; none where there is nothing to show."""
    shown = panels(told)
    if not shown:
        return []
    written = []
    # Paths and not text: it looks the same everywhere. A salt of our own: equal figures make an equal file.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "dmedia", "font.size": 9}):
        for page, colours in PAGES.items():
            rows = (len(shown) + 1) // 2
            heights = [max(len(results) for _, results in shown[row : row + 2]) for row in range(0, len(shown), 2)]
            figure = Figure(figsize=(10, 0.62 * rows + 0.26 * sum(heights)), layout="constrained")
            grid = figure.add_gridspec(rows, 2, height_ratios=[height + 1.6 for height in heights])
            for number, (caption, results) in enumerate(shown):
                _bars(figure.add_subplot(grid[number // 2, number % 2]), caption, results, colours)
            path = folder / f"results-{page}.svg"
            figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            written.append(path)
    return written


def _bars(axes: Axes, caption: str, results: Mapping[str, Any], colours: Colours) -> None:
    names = sorted(results, key=lambda name: -results[name]["median"]["mb_per_s"])
    rates = [results[name]["median"]["mb_per_s"] for name in names]
    below, above = _spread(results, names, rates)
    axes.barh(names, rates, color=[_colour(name, colours) for name in names], height=0.68)
    axes.errorbar(rates, names, xerr=[below, above], fmt="none", ecolor=colours.ink, elinewidth=0.7)
    for row, (rate, more) in enumerate(zip(rates, above, strict=True)):
        end = (rate + more, row)
        told = f"{rate:,.0f}"
        axes.annotate(told, end, (4, 0), textcoords="offset points", va="center", color=colours.ink)
    axes.invert_yaxis()
    axes.set_title(f"{caption}, MB/s", loc="left", color=colours.ink, fontsize=10, fontweight="bold")
    axes.set_xlim(0, max(map(sum, zip(rates, above, strict=True))) * 1.15 or 1.0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(colours.faint)
    axes.tick_params(axis="y", length=0, labelcolor=colours.ink)
    axes.tick_params(axis="x", bottom=False, labelbottom=False)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if "dmedia" in name else "normal")


def _spread(
    results: Mapping[str, Any], names: Sequence[str], rates: Sequence[float]
) -> tuple[list[float], list[float]]:
    """From the median down to the slowest round, and up to the fastest."""
    runs = [[run["mb_per_s"] for run in results[name]["runs"]] for name in names]
    below = [max(rate - min(each), 0.0) for rate, each in zip(rates, runs, strict=True)]
    return below, [max(max(each) - rate, 0.0) for rate, each in zip(rates, runs, strict=True)]


def _colour(name: str, colours: Colours) -> str:
    return colours.ours if "dmedia" in name else colours.theirs
