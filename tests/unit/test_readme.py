"""README keeps up with the program: settings, dependencies, commands and rooms."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from pydantic_core import PydanticUndefined

from dmedia_transfer.cli.app import root
from dmedia_transfer.config import Config, PeerSettings
from dmedia_transfer.daemon import settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """What is below a heading."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_setting_is_in_the_table_with_its_default() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in first_cells("Configuration")}
    assert sorted(told) == sorted(Config.model_fields)
    for name, field in Config.model_fields.items():
        if field.default is PydanticUndefined:  # the system's own
            assert told[name]
        elif isinstance(field.default, int | float):
            assert float(told[name]) == field.default, name
        elif isinstance(field.default, str):
            assert told[name] == field.default, name


def test_every_setting_of_peers_is_in_its_table_with_its_default() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in first_cells("Peers")}
    assert sorted(told) == sorted(PeerSettings.model_fields)
    for name, field in PeerSettings.model_fields.items():
        if isinstance(field.default, bool):
            assert told[name] == str(field.default).lower(), name
        elif isinstance(field.default, int | float):
            assert float(told[name]) == field.default, name


def test_every_dependency_is_in_the_table_with_its_reason() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = re.findall(r'^        "([A-Za-z0-9_-]+)>=', setup, re.MULTILINE)
    demo = re.findall(r'"demo": \["([a-z-]+)', setup)
    told = {row[0]: row[1] for row in first_cells("Dependencies, and why")}
    assert sorted(told) == sorted([*required, *demo])
    assert all(told.values())


def commands() -> list[str]:
    """Every command line of ours in README, and in the examples of the program's own help."""
    lines = re.findall(r"^\s*(?:mpv \"\$\()?(dmedia-transfer [a-z][^\n`]*)", README, re.MULTILINE)
    lines += re.findall(r"`(dmedia-transfer [a-z][^`]*)`", README)

    def helps(command: click.Command, ctx: click.Context) -> list[str]:
        found = re.findall(r"^\s*(dmedia-transfer [a-z].*)$", command.help or "", re.MULTILINE)
        if isinstance(command, click.Group):
            for name in command.list_commands(ctx):
                below = command.get_command(ctx, name)
                assert below is not None
                found += helps(below, ctx)
        return found

    return sorted({*lines, *helps(root, click.Context(root))})


@pytest.mark.parametrize("line", commands())
def test_every_command_line_that_is_shown_can_be_typed(line: str) -> None:
    words = shlex.split(line.removesuffix(')"').partition(" | ")[0].partition(" #")[0])[1:]
    if words[0] == "doctor" or "COMMAND" in words:
        return
    command: click.Command = root
    ctx = click.Context(root, info_name="dmedia-transfer")
    while isinstance(command, click.Group) and words:
        below = command.get_command(ctx, words[0])
        assert below is not None, f"there is no command {words[0]}"
        command, words = below, words[1:]
    # In a sentence, a command may be named without what follows.
    command.make_context("dmedia-transfer", list(words), resilient_parsing=not words)


def test_every_room_is_in_the_table_of_layers() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = {room.strip().split(".")[1] for layer in layers for room in re.split(r"[|:]", layer)}
    told = set(re.findall(r"`(\w+)`", " ".join(row[1] for row in first_cells("The layers"))))
    assert rooms - told == set()


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_examples_of_configuration_are_toml() -> None:
    for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL):
        tomllib.loads(block)


def test_readme_names_the_settings_that_a_reload_puts_in_force() -> None:
    told = section("Configuration").partition("In force at once are then")[2].partition(";")[0]
    assert set(re.findall(r"`(\w+)`", told)) == settings.LIVE
