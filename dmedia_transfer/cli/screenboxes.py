"""Boxes over the full screen: which machine to look at, and whether something is meant."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from dmedia_transfer.cli.watching import HERE, Neighbour


class Machines(ModalScreen[str | None]):
    """Which machine to look at."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Back")]

    def __init__(self, neighbours: list[Neighbour]) -> None:
        super().__init__()
        self._neighbours = neighbours

    def compose(self) -> ComposeResult:
        options = [Option(f"{each.name} (this one)" if each.this else each.name) for each in self._neighbours]
        choice = OptionList(*options, id="machines")
        choice.border_title = "Machines"
        yield choice

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        chosen = self._neighbours[event.option_index]
        self.dismiss(HERE if chosen.this else chosen.machine_id)


class Sure(ModalScreen[bool]):
    """Asks before something is given up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(Text(f"{self._question}  [y/n]"), id="question")

    def action_answer(self, answer: bool) -> None:
        """Go back with it."""
        self.dismiss(answer)
