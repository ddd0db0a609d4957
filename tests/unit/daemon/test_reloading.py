from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dmedia_transfer import config
from dmedia_transfer.config import Config
from dmedia_transfer.daemon.reloading import Reloading
from dmedia_transfer.errors import InvalidConfig


class Scene:
    """A configuration file, and a daemon that takes two of its settings while it runs."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.toml"
        self.problems: dict[str, str | None] = {}
        self.applied: list[tuple[str, object]] = []
        self.write("max_transfers = 3")
        self.reloading = Reloading(
            config.load(self.file), read=lambda: config.load(self.file), problem=self.problems.__setitem__
        )
        self.reloading.live(["max_transfers"], lambda new: lambda: self.apply("max_transfers", new.max_transfers))
        self.reloading.live(["timetable"], self.timetable)

    def write(self, text: str) -> None:
        self.file.write_text(text + "\n")

    def apply(self, name: str, value: object) -> None:
        self.applied.append((name, value))

    def timetable(self, new: Config) -> Callable[[], object]:
        if new.timetable == "nonsense":
            raise InvalidConfig("timetable: 'nonsense' is not like 08:00 2MB/s")
        return lambda: self.apply("timetable", new.timetable)

    def reload(self, text: str) -> list[tuple[str, object]]:
        self.write(text)
        self.applied.clear()
        self.reloading.reload()
        return self.applied


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_only_what_has_changed_is_put_in_force(scene: Scene) -> None:
    assert scene.reload("max_transfers = 5") == [("max_transfers", 5)]
    assert scene.reload('max_transfers = 5\ntimetable = "08:00 off"') == [("timetable", "08:00 off")]
    assert scene.reload('max_transfers = 5\ntimetable = "08:00 off"') == []
    assert scene.reload("") == [("max_transfers", 4), ("timetable", "")]


def test_what_cannot_change_while_it_runs_is_named_in_the_log_each_time(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(2):
        caplog.clear()
        scene.reload('database = "other"\nhostname = "tv"\nmax_transfers = 5')
        assert "needs a restart: database, hostname" in caplog.messages
    assert (scene.reloading.config.database, scene.reloading.config.max_transfers) == ("dmedia", 5)
    caplog.clear()
    scene.reload("max_transfers = 5\nhostname = " + repr(scene.reloading.config.hostname))
    assert not [line for line in caplog.messages if "restart" in line]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("max_transfers = 500", "max_transfers: "),
        ("max_transfers = ", "config.toml: "),
        ("no_such_thing = 1", "'no_such_thing': there is no such setting"),
        ('max_transfers = 9\ntimetable = "nonsense"', "is not like 08:00 2MB/s"),
    ],
)
def test_a_bad_configuration_changes_nothing_and_is_a_problem_until_a_good_one_comes(
    scene: Scene, text: str, wrong: str
) -> None:
    assert scene.reload(text) == []
    assert wrong in (scene.problems["configuration"] or "")
    assert "stays in force" in (scene.problems["configuration"] or "")
    assert scene.reloading.config.max_transfers == 3
    assert scene.reload("max_transfers = 9") == [("max_transfers", 9)]
    assert scene.problems["configuration"] is None


def test_a_password_that_changed_is_in_no_line_of_the_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    scene.file.chmod(0o600)
    scene.reload('couchdb_user = "anna"\ncouchdb_password = "hunter22"')
    assert "couchdb_password" in caplog.text
    assert "hunter22" not in caplog.text
