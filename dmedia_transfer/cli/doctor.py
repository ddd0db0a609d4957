"""`doctor`: do the checks, tell of each, and say in the exit code whether something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dmedia_transfer.cli import words
from dmedia_transfer.cli.checks import CHECKS, CONFIGURATION
from dmedia_transfer.cli.findings import Check, Finding, Verdict
from dmedia_transfer.cli.output import Output, console
from dmedia_transfer.errors import AccessDenied, DatabaseUnavailable, InvalidConfig, TransferError

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device


def run(device: Device, *, as_json: bool) -> int:
    """Do all checks and tell of each as it is done; returns the exit code."""
    output = Output(as_json=as_json)
    findings: list[Finding] = []
    for part, check in CHECKS.items():
        for finding in _checked(part, check, device):
            findings.append(finding)
            _tell(output, finding)
        if part == CONFIGURATION and any(finding.verdict is Verdict.WRONG for finding in findings):
            break  # nothing else can be looked at without it
    wrong = sum(finding.verdict is Verdict.WRONG for finding in findings)
    output.value(
        {
            "wrong": wrong,
            "findings": [
                {
                    "part": finding.part,
                    "verdict": str(finding.verdict),
                    "sentence": finding.sentence,
                    "remedy": finding.remedy or None,
                }
                for finding in findings
            ],
        }
    )
    output.line(f"{words.counted(wrong, 'thing')} wrong" if wrong else "all is well")
    return 1 if wrong else 0


def _checked(part: str, check: Check, device: Device) -> Iterator[Finding]:
    try:
        yield from check(device)
    except TransferError as error:
        yield Finding(part, Verdict.WRONG, str(error), _remedy(error))


def _remedy(error: TransferError) -> str:
    if isinstance(error, InvalidConfig):
        return "mend the setting that is named"
    if isinstance(error, DatabaseUnavailable):
        return "look whether CouchDB runs there, and at `couchdb` in the configuration"
    if isinstance(error, AccessDenied):
        return "look at the user, the password and what they may do there"
    return ""


def _tell(output: Output, finding: Finding) -> None:
    if output.terminal:
        from rich.text import Text

        style = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.WRONG: "bold red"}[finding.verdict]
        text = Text(f"{finding.verdict:<5}", style=style)
        text.append(f"  {finding.part}: {words.printable(finding.sentence)}", style="none")
        console().print(text)
        if finding.remedy:
            console().print(Text(f"       {words.printable(finding.remedy)}", style="dim"))
        return
    output.line(f"{finding.verdict:<5}  {finding.part}: {finding.sentence}")
    if finding.remedy:
        output.line(f"       {finding.remedy}")
