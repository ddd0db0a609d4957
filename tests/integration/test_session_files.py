"""The files that D-Bus and systemd read, and the package that has to bring them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from dmedia_transfer.busnames import BUS_NAME
from tests.bus import ROOT_DIR

UNIT = ROOT_DIR / "systemd/user/dmedia-transfer.service"
SERVICE = ROOT_DIR / "data/dbus-1/services/org.dmedia.Transfer1.service"
XML = ROOT_DIR / "data/dbus-1/interfaces/org.dmedia.Transfer1.xml"


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)  # a setting may be there twice
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


DROP_IN = UNIT.with_name(f"{UNIT.name}.d") / "50-namespaces.conf"


def verify(unit: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """What systemd says of a unit of a user."""
    path = directory / UNIT.name
    path.write_text(unit)
    shutil.copytree(DROP_IN.parent, directory / DROP_IN.parent.name, dirs_exist_ok=True)
    return analyze(directory, "verify", "--man=no", str(path))


def analyze(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze without a systemd."""
    env = {"XDG_RUNTIME_DIR": str(directory), "HOME": str(directory), "PATH": "/usr/bin:/bin"}
    command = ["systemd-analyze", "--user", "--no-pager", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def exposure(directory: Path) -> float:
    """How much of the system the unit in this folder could reach, from 0 (none) to 10 (all)."""
    said = analyze(directory, "security", "--offline=true", str(directory / UNIT.name))
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert match, said.stderr
    return float(match[1])


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = UNIT.read_text().replace("/usr/bin/dmedia-transfer", sys.executable)  # verify wants a program that is there
    said = verify(unit, tmp_path)
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("wrong", ["Tpye=notify", "RestrictAddressFamilies=AF_CARRIER_PIGEON"])
def test_systemd_would_have_said_so(tmp_path: Path, wrong: str) -> None:
    unit = UNIT.read_text().replace("/usr/bin/dmedia-transfer", sys.executable)
    said = verify(unit.replace("Type=notify", wrong), tmp_path)
    assert wrong.partition("=")[2] in said.stderr or wrong.partition("=")[0] in said.stderr


def test_the_service_is_shut_in_as_far_as_the_job_allows(tmp_path: Path) -> None:
    shutil.copy(UNIT, tmp_path)
    assert exposure(tmp_path) <= 6.4  # where users have no namespaces
    shutil.copytree(DROP_IN.parent, tmp_path / DROP_IN.parent.name)
    assert exposure(tmp_path) <= 3.5


def test_the_unit_itself_has_nothing_that_needs_a_user_namespace() -> None:
    # It would not start where users have none; all of that is in the drop-in, which can be left out.
    options = set(read(UNIT)["Service"])
    assert not [one for one in options if one.startswith(("Private", "Protect", "CapabilityBoundingSet"))]
    assert set(read(DROP_IN)["Service"]).isdisjoint(options)


def test_a_reload_and_a_hang_are_what_the_daemon_understands() -> None:
    unit = read(UNIT)["Service"]
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit["WatchdogSec"] == "2min"


def test_bus_and_systemd_start_the_same_program_under_the_same_name() -> None:
    activation, unit = read(SERVICE)["D-BUS Service"], read(UNIT)["Service"]
    assert activation["Name"] == unit["BusName"] == BUS_NAME == SERVICE.stem == XML.stem
    assert activation["SystemdService"] == UNIT.name
    assert activation["Exec"] == unit["ExecStart"]
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")


def test_a_source_distribution_has_all_that_installs_and_tests_it(tmp_path: Path) -> None:
    command = ["setup.py", "-q", "egg_info", "--egg-base", str(tmp_path), "sdist", "--formats", "tar"]
    subprocess.run(
        [sys.executable, *command, "--dist-dir", str(tmp_path)],
        cwd=ROOT_DIR,
        check=True,
        timeout=100,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    for file in (
        "Makefile",
        "data/debian/control",
        "data/completions/dmedia-transfer",
        "tests/conftest.py",
        "docs/dbus.md",
    ):
        assert file in packed
    for path in (UNIT, DROP_IN, SERVICE, XML):
        assert str(path.relative_to(ROOT_DIR)) in packed
    assert not [file for file in packed if "node_modules" in file or "__pycache__" in file]


def test_a_built_package_brings_the_xml_and_the_files_for_the_session(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, "build", "--build-base", tmp_path]
    subprocess.run(
        [*map(str, command), "install_data", "--install-dir", str(tmp_path / "data")],
        cwd=ROOT_DIR,
        check=True,
        timeout=100,
        capture_output=True,
    )
    (packaged,) = tmp_path.glob("lib*/dmedia_transfer/bus/org.dmedia.Transfer1.xml")
    assert not packaged.is_symlink()
    assert packaged.read_bytes() == XML.read_bytes()
    assert (packaged.parent / "standard.xml").is_file()
    share = tmp_path / "data/share"
    installed = [
        share / "dbus-1/interfaces" / XML.name,
        share / "dbus-1/services" / SERVICE.name,
        share / "systemd/user" / UNIT.name,
        share / "systemd/user" / DROP_IN.parent.name / DROP_IN.name,
    ]
    assert [path.read_bytes() for path in installed] == [path.read_bytes() for path in (XML, SERVICE, UNIT, DROP_IN)]
