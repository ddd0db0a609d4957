"""`make install`, `make uninstall` and `make deb`, without the packages that ours needs: those the tests have."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from dmedia_transfer import __version__
from dmedia_transfer.client import Client
from tests.bus import ROOT_DIR, running_bus

TIMEOUT_S = 110
# Nothing is fetched: setuptools and pip are those of the tests, too.
PARTS_OF_THE_TESTS = ("DEPENDENCIES=no", f"PIP={sys.executable} -m pip", "WHEEL_FLAGS=--no-build-isolation")
COMPLETIONS = (
    "bash-completion/completions/dmedia-transfer",
    "zsh/site-functions/_dmedia-transfer",
    "fish/vendor_completions.d/dmedia-transfer.fish",
)
FOR_THE_SESSION = (
    "dbus-1/interfaces/org.dmedia.Transfer1.xml",
    "dbus-1/services/org.dmedia.Transfer1.service",
    "systemd/user/dmedia-transfer.service",
)
DASHBOARD = "dmedia-transfer/grafana/dmedia-transfer.json"
PAGES = ("README.md", "CHANGELOG.md", "LICENSE", "dbus.md", "documents.md")


def make(*arguments: str) -> str:
    """Run make; returns what it printed."""
    done = subprocess.run(
        ["make", *arguments, *PARTS_OF_THE_TESTS],
        cwd=ROOT_DIR,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def output(*command: str, **env: str) -> str:
    """What a program prints."""
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    return done.stdout


def test_what_was_installed_works_and_uninstalling_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "prefix"
    kept = prefix / "share/dbus-1/services/org.example.Other.service"
    kept.parent.mkdir(parents=True)
    kept.touch()
    make("install", f"PREFIX={prefix}")
    for file in (*COMPLETIONS, *FOR_THE_SESSION, DASHBOARD, *(f"doc/dmedia-transfer/{page}" for page in PAGES)):
        text = (prefix / "share" / file).read_text()
        assert "/usr/bin/dmedia-transfer" not in text
        assert "file:///usr/" not in text
    (packages,) = prefix.glob("lib/dmedia-transfer/lib/python3*/site-packages")
    (packages / "of-the-tests.pth").write_text("\n".join(site.getsitepackages()))

    program = str(prefix / "bin/dmedia-transfer")
    assert __version__ in output(program, "--version")
    path = f"{prefix}/bin:{os.environ['PATH']}"
    completed = output("bash", "-c", f". {prefix}/share/{COMPLETIONS[0]}; complete -p dmedia-transfer", PATH=path)
    assert "_dmedia_transfer_completion" in completed

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with running_bus(tmp_path, servicedir=kept.parent) as bus, Client(bus.address) as client:
        assert client.state().version == __version__  # the first call started it

    make("uninstall", f"PREFIX={prefix}")
    assert [one for one in prefix.rglob("*") if not one.is_dir()] == [kept]
    assert sorted(str(one.relative_to(prefix)) for one in prefix.rglob("*") if one.is_dir()) == [
        "share",
        "share/dbus-1",
        "share/dbus-1/services",
    ]


def test_the_debian_package_has_its_files_where_debian_has_them_and_knows_no_other_place(tmp_path: Path) -> None:
    make("deb", f"BUILD={tmp_path}")
    (deb,) = tmp_path.glob("*.deb")
    tree = tmp_path / "unpacked"
    output("dpkg-deb", "--raw-extract", str(deb), str(tree))
    wanted = [f"usr/share/{file}" for file in (*COMPLETIONS, *FOR_THE_SESSION, DASHBOARD)]
    wanted += [f"usr/share/doc/dmedia-transfer/{page}" for page in (*PAGES, "copyright")]
    assert [file for file in wanted if not (tree / file).is_file()] == []
    assert (tree / "usr/bin/dmedia-transfer").readlink() == Path("../lib/dmedia-transfer/bin/dmedia-transfer")
    assert (tree / "usr/lib/dmedia-transfer/bin/python3").readlink() == Path("/usr/bin/python3")
    for file in (one for one in tree.rglob("*") if one.is_file() and not one.is_symlink()):
        assert str(tmp_path).encode() not in file.read_bytes(), file

    assert list(tree.glob("usr/lib/dmedia-transfer/lib/python3*/site-packages/dmedia_transfer/_lanes.abi3.so"))

    control = (tree / "DEBIAN/control").read_text()
    assert f"Version: {__version__}\n" in control
    assert "@" not in control.replace("dmedia-transfer@localhost", "")
    for needed in ("python3-dbus", "python3-gi", "dbus-user-session"):
        assert needed in control
    for script in ("postinst", "prerm", "postrm"):
        assert os.access(tree / "DEBIAN" / script, os.X_OK)
        output("sh", "-n", str(tree / "DEBIAN" / script))
