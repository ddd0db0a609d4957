"""docs/dbus.md says what the XML says."""

from __future__ import annotations

import pytest

from dmedia_transfer.bus.contract import interfaces
from docs import make_dbus


def test_the_page_is_made_from_the_xml() -> None:
    made = make_dbus.page(make_dbus.XML.read_text(encoding="utf-8"))
    assert make_dbus.PAGE.read_text(encoding="utf-8") == made, "run `make docs`"


@pytest.mark.parametrize("name", [name for name in interfaces() if name.startswith("org.dmedia.")])
def test_the_page_names_all_that_there_is(name: str) -> None:
    page = make_dbus.PAGE.read_text(encoding="utf-8")
    section = page.split(f"## {name}\n")[1].split("\n## ")[0]
    interface = interfaces()[name]
    for call in [*interface.methods, *interface.signals]:
        assert f"#### `{call}(" in section
    for each in interface.properties:
        assert f"| `{each}` |" in section


def test_a_comment_says_what_it_is_about_first() -> None:
    note = make_dbus.read_note(
        """
      Pause:
      @changed: Whether it was
        not paused before.

      Hold it, like @changed says.
    """
    )
    assert note == make_dbus.Note("Hold it, like `changed` says.", {"changed": "Whether it was not paused before."})
    with pytest.raises(ValueError, match="begins with what it is about"):
        make_dbus.read_note(" just words ")
