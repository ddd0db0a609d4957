"""What commands share: the session they run in, and options that mean the same everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

import click

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device

HELP_NAMES: Final = ["-h", "--help"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """What the options before the command's name said."""

    def __init__(self, config_path: Path | None = None) -> None:
        self.config_path = config_path

    def device(self) -> Device:
        """This machine, nothing of it opened yet."""
        from dmedia_transfer.cli.device import Device

        return Device(self.config_path)


def command(name: str, short_help: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command whose help can be asked for by -h as well; `short_help` stands beside its name in the list of all."""
    return click.command(name, short_help=short_help, context_settings={"help_option_names": HELP_NAMES, **settings})


class Subcommand(click.Command):
    """A command of a group. It knows itself that -h asks for its help: click keeps what the first context said."""

    def __init__(self, name: str | None, **settings: Any) -> None:
        own = settings.pop("context_settings", None) or {}
        super().__init__(name, context_settings={"help_option_names": HELP_NAMES, **own}, **settings)


class Group(click.Group):
    """A command with commands of its own."""

    command_class = Subcommand


def with_device(function: Callable[Concatenate[Device, P], R]) -> Callable[P, R]:
    """Hand the command this machine as its first argument, and let go of what it opened when it ends."""

    @click.pass_context
    @functools.wraps(function)
    def handed(ctx: click.Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with cast(Session, ctx.obj).device() as device:
            return function(device, *args, **kwargs)

    return handed


def json_option(what: str = "Print JSON, for programs.") -> Callable[[F], F]:
    """`--json`: for programs instead of people."""
    return click.option("--json", "as_json", is_flag=True, help=what)


def on_option() -> Callable[[F], F]:
    """`--on`: another machine instead of this one."""
    return click.option("--on", "machine", default="", metavar="MACHINE", help="On another machine of the library.")
