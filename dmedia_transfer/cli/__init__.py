"""The command line: commands, tables, progress bars."""

from dmedia_transfer.cli.app import main

__all__ = ["main"]
