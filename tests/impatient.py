"""The command line as it is installed, but with less patience towards a database: `python -m tests.impatient daemon`.

How long the daemon waits before it asks a failing database again is written in the code for real servers and networks.
A test that waited as long would prove no more. Everything else is as users have it.
"""

from __future__ import annotations

import sys
from typing import Any

from dmedia_transfer.couch import pause, session

patience: dict[Any, dict[str, float]] = {
    pause: {"PAUSE_MAX_S": 0.5, "DENIED_PAUSE_S": 0.5},
    session: {"READ_TIMEOUT_S": 10.0},
}
for module, values in patience.items():
    for name, seconds in values.items():
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name} any more")
        setattr(module, name, seconds)  # before those are imported who take it over

from dmedia_transfer.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
