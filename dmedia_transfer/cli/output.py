"""What a command prints: tables for people, tab-separated lines for pipes, JSON for programs; notes go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from dmedia_transfer.cli import words

if TYPE_CHECKING:
    from rich.console import Console


class Output:
    """The stdout of one command."""

    def __init__(self, *, as_json: bool) -> None:
        """With `as_json`, `line` and `table` print nothing: what a program reads is printed by `value` alone."""
        self.as_json = as_json
        self.terminal = sys.stdout.isatty() and not as_json

    def value(self, value: object) -> None:
        """With --json, print one value on one line."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False))
            sys.stdout.flush()  # somebody may be reading line by line

    def line(self, text: str) -> None:
        """Print a line for people."""
        if not self.as_json:
            click.echo(words.printable(text))
            sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
        """Print rows for people; in a pipe without titles, with tabs between the cells.

        Args:
            columns: The titles, which are also the keys of the rows; one that begins with `>` is set to the right.
            rows: Texts by title. `(short, whole)` is shown short on a terminal and whole in a pipe.
            empty: What to say on a terminal if there are no rows.
        """
        if self.as_json:
            return
        if not self.terminal:
            for row in rows:
                click.echo("\t".join(_cell(row[column.removeprefix(">")], terminal=False) for column in columns))
            return
        if not rows:
            click.echo(empty)
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for column in columns:
            right = column.startswith(">")
            table.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(row[column.removeprefix(">")], terminal=True)) for column in columns))
        console().print(table)


def note(text: str) -> None:
    """Say on stderr what somebody should know who did not ask."""
    click.echo(f"dmedia-transfer: {words.printable(text)}", err=True)


def console() -> Console:
    """The terminal; rich looks at NO_COLOR and TERM itself."""
    from rich.console import Console

    return Console(highlight=False)


def _cell(value: str | tuple[str, str], *, terminal: bool) -> str:
    if isinstance(value, tuple):
        value = value[0] if terminal else value[1]
    return words.printable(value)
