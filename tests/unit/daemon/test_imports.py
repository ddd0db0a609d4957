from __future__ import annotations

import subprocess
import sys


def test_what_a_daemon_does_not_serve_it_does_not_load() -> None:
    # The servers are for those who want them; an idle daemon of the others has neither their memory nor their start.
    served = "{'aiohttp', 'boto3', 'zeroconf'}"
    code = f"import sys, dmedia_transfer.daemon.joined; print({served}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "set()"


def test_the_document_server_is_told_to_start_before_what_takes_long_is_loaded() -> None:
    heavy = "{'dbus', 'gi', 'pycouchdb', 'requests', 'sqlite3'}"
    code = f"import sys, dmedia_transfer.cli.device, dmedia_transfer.daemon; print({heavy}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "set()"
