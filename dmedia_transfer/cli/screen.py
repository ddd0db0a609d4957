"""`watch` on a terminal: all transfers of a machine on the whole screen, and keys that steer them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Header, Static

from dmedia_transfer.cli import words
from dmedia_transfer.cli.bars import Rates
from dmedia_transfer.cli.looking import urgency
from dmedia_transfer.cli.screenboxes import Machines, Sure
from dmedia_transfer.cli.screenrows import COLUMNS, cells, counts, detail
from dmedia_transfer.cli.watching import HERE, Attendant, Neighbour, Threads, View
from dmedia_transfer.model import PRIORITY_HIGH, PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_NOW, Verb
from dmedia_transfer.states import Status

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.client.state import TransferState

MOST_ROWS: Final = 1000  # the most urgent ones; nobody reads more, and a terminal is slow to take them
_STEPS: Final = (PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_HIGH, PRIORITY_NOW)


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
        Binding("u,shift+up", "move(True)", "Up", key_display="u"),
        Binding("d,shift+down", "move(False)", "Down", key_display="d"),
        Binding("e", "spend", "Even metered"),
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
        head.append(counts(states) or "Nothing is on its way.")
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
            new = cells(state, view.names.get(state.key.file_id, ""))
            before = self._rows.get(state.path)
            if before is None:
                table.add_row(*new, key=state.path)
            else:
                for column, cell, old in zip(COLUMNS, new, before, strict=True):
                    if cell != old:
                        table.update_cell(state.path, column, cell)
            self._rows[state.path] = new
        if order != self._order:
            self._order = order
            selected = self._selected_path
            places = {path: place for place, path in enumerate(order)}
            table.sort("file", key=lambda name: places[name.path])
            if selected in places:
                table.move_cursor(row=places[selected])

    def _show_detail(self) -> None:
        state = self._selected
        self.query_one("#detail", Static).update(Text(detail(state, self._view) if state and self._view else ""))

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

    def action_move(self, up: bool) -> None:
        """Let it change places with the row above it, or below it."""
        view, path = self._view, self._selected_path
        if view is None or path is None or path not in view.states or self.attendant is None:
            return
        there = sorted(view.states.values(), key=urgency)
        place = there.index(view.states[path]) + (-1 if up else 2)
        if not 0 <= place <= len(there):
            self.notify("It is the first." if up else "It is the last.")
            return
        before = there[place] if place < len(there) else None
        if before is not None and before.status in (Status.DONE, Status.CANCELLED):
            before = None
        self.attendant.put_before(self._machine, view.states[path].key, before.key if before else None)

    def action_spend(self) -> None:
        """Let it go on over a connection that costs by the byte, or not any more."""
        if state := self._selected:
            self._steer(Verb.SPARE if state.metered else Verb.SPEND)

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
