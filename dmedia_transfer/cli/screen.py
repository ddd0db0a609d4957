"""`watch` on a terminal: all transfers of a machine on the whole screen, and keys that steer them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Header, OptionList, Static
from textual.widgets.option_list import Option

from dmedia_transfer.cli import words
from dmedia_transfer.cli.bars import Rates
from dmedia_transfer.cli.looking import urgency
from dmedia_transfer.cli.watching import HERE, Attendant, Neighbour, Threads, View
from dmedia_transfer.model import PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_NOW, Direction, Verb
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.client.state import TransferState

BAR_WIDTH: Final = 20
MOST_ROWS: Final = 1000  # the most urgent ones; nobody reads more, and a terminal is slow to take them
COLUMNS: Final = ("", "file", "status", "progress", "done", "rate", "left", "priority")
_STEPS: Final = (PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_HIGH, PRIORITY_NOW)
_ARROWS: Final = {Direction.DOWNLOAD: "\N{DOWNWARDS ARROW}", Direction.UPLOAD: "\N{UPWARDS ARROW}"}
_STYLES: Final = {Status.FAILED: "bold red", Status.PAUSED: "yellow", Status.SUSPENDED: "yellow", Status.ONGOING: ""}


class _Name(Text):
    """What a row is about."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text)
        self.path = path


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


class WatchApp(App[None]):
    """The whole screen. Give it an attendant, or let `on` make a real one."""

    TITLE = "dmedia-transfer"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head, #detail { padding: 0 1; }
    #head { height: auto; color: $text-muted; }
    #detail { height: 5; border-top: solid $primary; }
    DataTable { height: 1fr; }
    Machines, Sure { align: center middle; }
    #machines, #question { width: auto; min-width: 30; max-width: 90%; height: auto; padding: 1 2; background: $panel;
        border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause/resume"),
        Binding("r", "retry", "Retry"),
        Binding("c", "cancel", "Cancel"),
        Binding("plus,equals_sign", "sooner", "Sooner", key_display="+"),
        Binding("minus", "later", "Later", key_display="-"),
        Binding("n", "now", "Now"),
        Binding("h", "hold", "Hold all"),
        Binding("m", "machines", "Machines"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, machine: str = HERE) -> None:
        super().__init__()
        self.attendant: Attendant | None = None
        self._machine = machine
        self._called = machine
        self._view: View | None = None
        self._rows: dict[str, tuple[Any, ...]] = {}  # the cells of each row, by object path
        self._order: list[str] = []
        self._rates = Rates()

    @classmethod
    def on(cls, opened: Callable[[], Device], machine: str) -> WatchApp:
        """The screen of a real device."""
        app = cls(machine)
        app.attendant = Threads(
            opened,
            on_view=lambda view: app.call_from_thread(app.show, view),
            on_said=lambda said: app.call_from_thread(app.notify, said),
            on_error=lambda said: app.call_from_thread(app.notify, said, severity="error"),
        )
        return app

    def compose(self) -> ComposeResult:
        yield Header(icon="")
        with Vertical():
            yield Static("", id="head")
            yield DataTable(cursor_type="row", zebra_stripes=True)
            yield Static("", id="detail")
        yield Footer()

    def on_mount(self) -> None:
        """Ask for the first view."""
        table = self._table
        for column in COLUMNS:
            table.add_column(column, key=column)
        table.focus()
        self._look_at(self._machine, self._machine)

    # What there is.

    def show(self, view: View) -> None:
        """Show a queue as it is now."""
        if view.machine != self._machine:
            return
        self._view = view
        head = [view.note] if view.note else []
        head += ["the whole queue is paused; h lets it go on"] if view.held else []
        states = sorted(view.states.values(), key=urgency)
        head.append(_counts(states) or "Nothing is on its way.")
        if len(states) > MOST_ROWS:
            head.append(f"The first {MOST_ROWS:,} of {len(states):,} are shown.")
        head += [f"! {words.printable(problem)}" for problem in view.problems]
        self.query_one("#head", Static).update(Text("\n".join(head)))
        self._show_rows([self._rates.measure(state.path, state) for state in states[:MOST_ROWS]], view)
        self._show_detail()

    def _show_rows(self, states: list[TransferState], view: View) -> None:
        table, order = self._table, [state.path for state in states]
        for path in self._rows.keys() - set(order):
            table.remove_row(path)
            del self._rows[path]
            self._rates.forget(path)
        for state in states:
            cells = _cells(state, view.names.get(state.key.file_id, ""))
            before = self._rows.get(state.path)
            if before is None:
                table.add_row(*cells, key=state.path)
            else:
                for column, cell, old in zip(COLUMNS, cells, before, strict=True):
                    if cell != old:
                        table.update_cell(state.path, column, cell)
            self._rows[state.path] = cells
        if order != self._order:
            self._order = order
            selected = self._selected_path
            places = {path: place for place, path in enumerate(order)}
            table.sort("file", key=lambda name: places[name.path])
            if selected in places:
                table.move_cursor(row=places[selected])

    def _show_detail(self) -> None:
        state = self._selected
        self.query_one("#detail", Static).update(Text(_detail(state, self._view) if state and self._view else ""))

    def on_data_table_row_highlighted(self) -> None:
        """Say more of what is selected."""
        self._show_detail()

    @property
    def _table(self) -> DataTable[Any]:
        return self.query_one(DataTable)

    @property
    def _selected_path(self) -> str | None:
        table = self._table
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(Coordinate(table.cursor_row, 0)).row_key.value

    @property
    def _selected(self) -> TransferState | None:
        path = self._selected_path
        return self._view.states.get(path) if self._view and path else None

    # What somebody wants.

    def action_pause(self) -> None:
        """Pause what is selected, or let it go on."""
        if state := self._selected:
            self._steer(Verb.RESUME if state.status is Status.PAUSED else Verb.PAUSE)

    def action_retry(self) -> None:
        """Try what has failed again."""
        self._steer(Verb.RETRY)

    def action_cancel(self) -> None:
        """Give up what is selected, once somebody has said that it is meant."""
        if state := self._selected:
            name = self._view.names.get(state.key.file_id) if self._view else ""

            def answered(sure: bool | None) -> None:
                if sure and self.attendant:
                    self.attendant.steer(self._machine, Verb.CANCEL, [state.key])

            question = f"Cancel the {state.key.direction} of {name or words.short(state.key.file_id)}?"
            self.push_screen(Sure(question), answered)

    def action_sooner(self) -> None:
        """Give it the next higher priority that has a name."""
        if state := self._selected:
            higher = [step for step in _STEPS if step > state.priority]
            self._steer(Verb.PRIORITIZE, priority=higher[0] if higher else state.priority)

    def action_later(self) -> None:
        """Give it the next lower priority that has a name."""
        if state := self._selected:
            lower = [step for step in _STEPS if step < state.priority]
            self._steer(Verb.PRIORITIZE, priority=lower[-1] if lower else state.priority)

    def action_now(self) -> None:
        """Do it before all others."""
        self._steer(Verb.PRIORITIZE, priority=PRIORITY_NOW)

    def action_hold(self) -> None:
        """Pause the whole queue, or let it go on."""
        if self._view and self.attendant:
            self.attendant.hold(self._machine, not self._view.held)

    def action_machines(self) -> None:
        """Go to another machine."""

        def choose(neighbours: list[Neighbour]) -> None:
            names = {HERE if each.this else each.machine_id: each.name for each in neighbours}

            def chosen(machine: str | None) -> None:
                if machine is not None:
                    self._look_at(machine, names[machine])

            self.push_screen(Machines(neighbours), chosen)

        if self.attendant:
            self.attendant.neighbours(lambda found: self.call_from_thread(choose, found))

    def _steer(self, command: Verb, *, priority: int = 0) -> None:
        if self.attendant and (state := self._selected):
            self.attendant.steer(self._machine, command, [state.key], priority=priority)

    def _look_at(self, machine: str, name: str) -> None:
        self._machine = machine
        self._view = None
        self.sub_title = name or "this machine"
        self._table.clear()
        self._rows.clear()
        self._order.clear()
        self._rates = Rates()
        self.query_one("#head", Static).update("…")
        self._show_detail()
        if self.attendant:
            self.attendant.look_at(machine)


def _cells(state: TransferState, name: str) -> tuple[Any, ...]:
    progress = state.progress
    percent = words.percent(progress)
    filled = BAR_WIDTH * (percent or 0) // 100
    moving = state.status is Status.ONGOING
    bar = Text("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * filled, style="green" if moving else "blue")
    bar.append("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (BAR_WIDTH - filled), style="dim")
    done = f"{percent}% of {words.size(progress.bytes_total)}" if percent is not None else ""
    return (
        _ARROWS[state.key.direction],
        _Name(name or words.short(state.key.file_id), state.path),
        Text(words.status(state.status, state.reason), style=_STYLES.get(state.status, "dim")),
        bar,
        Text(done, justify="right"),
        Text(words.rate(progress.rate) if moving and progress.rate else "", justify="right"),
        Text(words.duration(progress.eta_s) if moving and progress.eta_s is not None else "", justify="right"),
        words.priority(state.priority),
    )


def _counts(states: list[TransferState]) -> str:
    counts: dict[str, int] = {}
    for state in states:
        counts[state.status] = counts.get(state.status, 0) + 1
    rates = {
        direction: sum(state.progress.rate for state in states if state.key.direction is direction)
        for direction in Direction
    }
    moving = [f"{_ARROWS[direction]} {words.rate(rate)}" for direction, rate in rates.items() if rate]
    return "   ".join([*(f"{count:,} {status}" for status, count in counts.items()), *moving])


def _detail(state: TransferState, view: View) -> str:
    lines = [f"{state.key.direction} of {view.names.get(state.key.file_id) or 'a file without a name'}"]
    lines[0] += f"   {state.key.file_id}"
    lines.append(words.status(state.status, state.reason, state.error))
    if state.error and state.status not in (Status.FAILED, Status.SUSPENDED):
        lines.append(f"last error: {words.printable(state.error)}")
    facts = []
    if state.requested_by:
        facts.append(f"asked for by {words.printable(state.requested_by)}")
    if state.store_id:
        facts.append(f"{'to' if state.key.direction is Direction.UPLOAD else 'rather from'} store {state.store_id}")
    facts += [
        f"{words.size(source.received_bytes)} from {words.short(source.store_id)}"
        + (f" ({source.reason})" if source.reason else "")
        for source in state.sources
    ]
    return "\n".join([*lines, "   ".join(facts)])
