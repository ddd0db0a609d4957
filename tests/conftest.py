"""What all tests share: hypothesis profiles, a clean environment, and no skips in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Fixtures that several rooms use.
pytest_plugins = (
    "tests.bus",
    "tests.couch",
    "tests.engine",
    "tests.s3",
    "tests.cli",
    "tests.peerserver",
    "tests.system",
    "tests.web",
)

# The same examples in every run, so that a change is judged by what it changes; `make soak` looks for new ones.
settings.register_profile(
    "default", deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", settings.get_profile("default"), max_examples=3000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Those of the server that `DMEDIA_TEST_S3_URL` names are kept under names of their own, also for processes of xdist.
if os.environ.get("DMEDIA_TEST_S3_URL"):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        if name in os.environ:
            os.environ[f"DMEDIA_TEST_{name}"] = os.environ[name]

# A developer's own settings and credentials must not reach a test, nor a test's requests a proxy.
for name in list(os.environ):
    keep = name.startswith("DMEDIA_TEST_")
    if (name.startswith(("AWS_", "DMEDIA_")) or name.lower().endswith("_proxy")) and not keep:
        del os.environ[name]

# A shell without job control starts what it puts into the background with Ctrl-C ignored, and all children inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ONCE_MORE = tuple(Path(__file__).parent / name for name in ("e2e", "integration"))


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Tests of real processes, sockets and disks have a second try, as the machine is shared. No others have.

    It hides nothing: the summary shows what failed the first time.
    """
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in ONCE_MORE):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show each failure that a second try has mended or not: it is a race or a bound, and somebody's to mend."""
    reports = terminalreporter.getreports("rerun")
    if reports:
        terminalreporter.section(f"{len(reports)} failed at the first try and were run again", red=True, bold=True)
    for report in reports:
        terminalreporter.section(f"first try of {report.nodeid}", sep="_", yellow=True)
        terminalreporter.line(report.longreprtext)
        for title, text in report.sections:
            terminalreporter.section(title, sep="-")
            terminalreporter.line(text[-4000:])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """A failure shows what daemons said. In CI a test that skips itself has not been run, and that is a failure."""
    report = yield
    if report.failed:
        from tests.device import last_words  # not before pytest has taken in its plugins

        report.sections.extend((f"the daemon of {name}", log) for name, log in last_words())
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI allows no skips: {report.longrepr}"
    return report
