"""The program `dmedia-transfer`: its commands, its exit codes, and how it says what went wrong.

A command is imported when it is called or its help is shown, and imports what it needs when it runs: so `--help` is
there at once, and `path` does not wait for S3.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from dmedia_transfer import __version__
from dmedia_transfer.cli.options import HELP_NAMES, Session
from dmedia_transfer.errors import InvalidConfig, InvalidRequest, TransferError

log = logging.getLogger(__name__)

PROGRAM: Final = "dmedia-transfer"

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130  # 130 as shells have it: 128 + SIGINT

# Where each command is, in the order in which the help lists them.
_SECTIONS: Final[dict[str, dict[str, str]]] = {
    "Files": {
        "import": "files",
        "path": "files",
        "drop": "files",
        "verify": "jobs",
        "heal": "jobs",
        "jobs": "jobs",
    },
    "Transfers": {
        "download": "asking",
        "upload": "asking",
        "list": "looking",
        "watch": "looking",
        "pause": "steering",
        "resume": "steering",
        "cancel": "steering",
        "retry": "steering",
        "prioritize": "steering",
        "reorder": "steering",
        "metered": "steering",
        "history": "history",
    },
    "Library": {"machines": "machines", "move": "chains", "fetch-from": "chains"},
    "Looking on": {"web": "web"},
    "Set-up": {"stores": "stores", "daemon": "service", "doctor": "service", "demo": "service"},
}
_MODULES: Final = {name: module for section in _SECTIONS.values() for name, module in section.items()}


class _Commands(click.Group):
    """Commands that are imported one by one, listed in sections."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"dmedia_transfer.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        limit = formatter.width - 6 - max(map(len, _MODULES))
        for title, names in _SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, command.get_short_help_str(limit)) for name, command in commands if command])


@click.group(cls=_Commands, context_settings={"help_option_names": HELP_NAMES, "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Read this configuration instead.")
@click.option("--debug", is_flag=True, help="Say on stderr what is done, and where errors come from.")
@click.pass_context
def root(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """Move the files of your library between your devices and your stores.

    Ask for a transfer and forget it: the daemon sees it through. Files are named by their ID, the beginning of it,
    or their name; stores likewise.

    \b
    Examples:
      dmedia-transfer import ~/Videos/film.mkv
      dmedia-transfer upload film.mkv my-bucket --wait
      dmedia-transfer download film.mkv --priority now
      dmedia-transfer watch
    """
    _say_what_is_done(debug)
    ctx.obj = Session(config)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0: done. 1: it failed, and stderr says in a sentence why. 2: wrong usage. 130: Ctrl-C.
    """
    atexit.register(gc.freeze)  # at its end the interpreter looks for garbage in all that there is: a tenth of a second
    try:
        status = root.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:  # a wrong argument or option
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # `dmedia-transfer list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return FAILED
    except TransferError as error:
        return _explain(error, str(error), WRONG_USAGE if isinstance(error, InvalidConfig | InvalidRequest) else FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _explain(error, f"{where}{error.strerror or error}", FAILED)
    except Exception as error:
        fault = f"a fault of this program ({type(error).__name__}: {error}); --debug says where"
        return _explain(error, fault, FAILED)
    return status if isinstance(status, int) else DONE


def _explain(error: Exception, sentence: str, code: int) -> int:
    log.debug("it failed here:", exc_info=error)
    click.echo(f"{PROGRAM}: {' '.join(sentence.split())}", err=True)
    return code


def _say_what_is_done(debug: bool) -> None:
    if debug:
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(level=logging.DEBUG, format=form, stream=sys.stderr)
    else:
        logging.basicConfig(handlers=[logging.NullHandler()])  # a command says in its own words what matters
