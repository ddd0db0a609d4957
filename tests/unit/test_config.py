"""The configuration: where it comes from, what wins, and how it is refused."""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from dmedia_transfer import config
from dmedia_transfer.config import Config
from dmedia_transfer.errors import InvalidConfig

SECRET = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DMEDIA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "dmedia-transfer" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def refusal() -> str:
    with pytest.raises(InvalidConfig) as caught:
        config.load()
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return text


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    loaded = config.load()
    assert loaded.couchdb == "embedded"
    assert loaded.max_transfers == 4
    assert loaded.state_dir == tmp_path / "state" / "dmedia-transfer"
    assert loaded.couchdb_password.get_secret_value() == ""


def test_the_environment_outranks_the_file_and_the_file_the_defaults(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml.write_text(
        'max_transfers = 7\nconnections = 7\nallowed_http_hosts = ["nas", "tv"]\ndownload_limit = "5MB/s"\n'
    )
    monkeypatch.setenv("DMEDIA_CONNECTIONS", "9")
    loaded = config.load()
    assert (loaded.max_transfers, loaded.connections, loaded.stall_s) == (7, 9, 60.0)
    assert loaded.allowed_http_hosts == ("nas", "tv")
    assert loaded.download_limit == "5MB/s"


def test_where_nobody_is_logged_in_a_folder_for_sockets_is_found_without_a_word(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert config.load().runtime_dir.is_absolute()
    assert not recwarn.list


def test_hosts_in_the_environment_have_commas_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMEDIA_ALLOWED_HTTP_HOSTS", "nas, tv,")
    assert config.load().allowed_http_hosts == ("nas", "tv")


def test_nothing_in_a_config_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config.load().max_transfers = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_transfers = 0", "max_transfers: should be greater than or equal to 1"),
        ("max_transfers = 65", "max_transfers: should be less than or equal to 64"),
        ("max_transfers = true", "max_transfers: should not be true"),
        ("max_transfers = 1.5", "max_transfers: should be a valid integer, got a number with a fractional part"),
        ("stall_s = 0", "stall_s: should be greater than 0"),
        ("stall_s = nan", "stall_s: should be a finite number"),
        ("stall_s = inf", "stall_s: should be a finite number"),
        ("floor_percent = false", "floor_percent: should not be false"),
        ("log_level = 'chatty'", "log_level: should be DEBUG, INFO, WARNING or ERROR, not 'chatty'"),
        ("database = '../x'", "database: should be lower-case letters, digits and any of _$()+-/, not '../x'"),
        ("database = \"x\\n\"", "database: should be lower-case letters, digits and any of _$()+-/, not 'x\\n'"),
        ("state_dir = ''", "state_dir: should not be empty"),
        ("couchdb = 'server'", "couchdb: should be embedded, per-user or a URL like https://host:6984, not 'server'"),
        ("couchdb = 'ftp://host'", "couchdb: should be embedded, per-user or a URL like https://host:6984, not 'ftp://host'"),
        ("allowed_http_hosts = 5", "allowed_http_hosts: should be a valid tuple"),
        ("max_transfer = 5", "'max_transfer': there is no such setting"),
        ("[couchdb]\nurl = 'x'", "couchdb: should be a valid string"),
        ("max_transfers = x", "Invalid value (at line 1, column 17)"),
        ("max_transfers = 1\nmax_transfers = 2", "Cannot overwrite a value (at end of document)"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_with_its_file(toml: Path, line: str, message: str) -> None:
    toml.write_text(line)
    assert refusal() == f"{toml}: {message}"


@pytest.mark.parametrize("name", ["DMEDIA_MAX_TRANSFERS", "dmedia_max_transfers"])
def test_a_bad_variable_is_named_and_not_the_file(toml: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    toml.write_text("max_transfers = 3")
    monkeypatch.setenv(name, "many")
    assert refusal() == f"{name}: max_transfers: should be a valid integer, unable to parse string as an integer"


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(InvalidConfig, match="there is no such file, but it was asked for"):
        config.load(missing)
    monkeypatch.setenv("DMEDIA_CONFIG", str(missing))
    assert refusal() == f"{missing}: there is no such file, but DMEDIA_CONFIG names it"
    missing.write_text("max_transfers = 3")
    assert config.load().max_transfers == 3


def test_an_empty_name_of_a_file_names_none(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMEDIA_CONFIG", "")
    assert config.config_path() == toml


def test_a_file_that_cannot_be_read_is_named(toml: Path) -> None:
    toml.mkdir()
    assert refusal() == f"{toml}: cannot be read: Is a directory"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"\x00"])
def test_what_is_no_toml_is_refused(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    assert refusal().startswith(f"{toml}: ")


@pytest.mark.parametrize(
    "content",
    [
        f'couchdb_password = ["{SECRET}"]',
        f'couchdb_password = {{ is = "{SECRET}" }}',
        f"couchdb_password = {SECRET}",
        f'couchdb_password = "{SECRET}',
        f'couchdb_password = "{SECRET}"\nmax_transfers = 0',
        f'couchdb_password = "{SECRET}"\ncouchdb_password = "{SECRET}"',
        f'couchdb = "https://admin:{SECRET}@host:6984"',
        f'couchdb = "ftp://admin:{SECRET}@host:6984"',
        f'couchdb = "admin:{SECRET}@host"',
        f'couchdb_ca_file = 5\ncouchdb_password = "{SECRET}"',
    ],
)
def test_no_refusal_repeats_a_password(toml: Path, content: str) -> None:
    toml.write_text(content)
    assert refusal().startswith(f"{toml}: ")


def test_a_password_in_the_servers_url_is_sent_to_its_own_setting(toml: Path) -> None:
    toml.write_text(f'couchdb = "https://admin:{SECRET}@host"')
    assert refusal().endswith("they belong into couchdb_user and couchdb_password")


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("DMEDIA_COUCHDB_PASSWORD", SECRET)
    loaded = config.load()
    assert loaded.couchdb_password.get_secret_value() == SECRET
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").info("%s %r %s", loaded, loaded, loaded.model_dump())
    for text in (repr(loaded), str(loaded), caplog.text, loaded.model_dump_json(), repr(loaded.couchdb_password)):
        assert SECRET not in text


def test_an_error_of_pydantic_that_somebody_logs_whole_has_no_password_in_it() -> None:
    with pytest.raises(ValidationError) as caught:
        Config(couchdb_password=[SECRET])
    assert SECRET not in str(caught.value)


def test_folders_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DMEDIA_STATE_DIR", "here")
    monkeypatch.setenv("DMEDIA_RUNTIME_DIR", "~/there")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    loaded = config.load()
    assert (loaded.state_dir, loaded.runtime_dir) == (tmp_path / "here", tmp_path / "home" / "there")


@pytest.mark.parametrize("name", Config.model_fields)
def test_every_setting_says_what_it_means(name: str) -> None:
    assert Config.model_fields[name].description


def test_a_database_to_sync_with_is_a_url_with_credentials_of_its_own_or_the_common_ones(toml: Path) -> None:
    toml.write_text(
        'sync = ["https://couch.example.org/dmedia/", { url = "https://nas/a%2Fb", user = "nas", password = "n" }]\n'
        f'sync_user = "ann"\nsync_password = "{SECRET}"\n'
    )
    first, second = config.load().sync_targets
    assert (first.url, first.server_url) == ("https://couch.example.org/dmedia", "https://couch.example.org")
    assert (first.database, first.user, first.password.get_secret_value()) == ("dmedia", "ann", SECRET)
    assert (second.database, second.user, second.password.get_secret_value()) == ("a/b", "nas", "n")
    assert SECRET not in repr(config.load())


def test_databases_to_sync_with_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMEDIA_SYNC", "https://one/dmedia, https://two/dmedia")
    monkeypatch.setenv("DMEDIA_SYNC_USER", "ann")
    assert [(each.url, each.user) for each in config.load().sync_targets] == [
        ("https://one/dmedia", "ann"),
        ("https://two/dmedia", "ann"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('sync = "https://host"', "sync.0.url: should end with the name of a database"),
        ('sync = ["https://one/dmedia", "host/dmedia"]', "sync.1.url: should be a URL like https://host:6984/dmedia"),
        ('sync = ["https://host/dmedia?x=1"]', "sync.0.url: should be a URL like"),
        ('sync = ["https://host/Dmedia"]', "sync.0.url: should end with the name of a database"),
        (f'sync = ["https://ann:{SECRET}@host/dmedia"]', "sync.0.url: has a user or a password in the URL"),
        ('sync = ["http://nas/dmedia"]', "sync: http://nas/dmedia is not encrypted: use https, or name nas in"),
        ('sync = ["https://h/d", "https://h/d/"]', "sync: https://h/d is there twice"),
        (f'sync = [{{ url = "https://h/d", password = "{SECRET}" }}]', "sync.0.password: needs a user beside it"),
        (f'sync = [{{ url = "https://h/d", pass = "{SECRET}" }}]', "'sync.0.pass': there is no such setting"),
        ("sync = [5]", "sync.0: "),
        ('couchdb = "https://h:1/"\nsync = ["https://h:1/dmedia"]', "is the database itself that this device uses"),
    ],
)  # fmt: skip
def test_a_bad_database_to_sync_with_is_named(toml: Path, line: str, message: str) -> None:
    toml.write_text(line)
    assert message in refusal()


def test_a_database_in_the_local_network_may_be_synced_with_if_its_host_is_named(toml: Path) -> None:
    toml.write_text('sync = ["http://nas/dmedia", "http://127.0.0.1:5984/dmedia"]\nallowed_http_hosts = ["nas"]\n')
    assert [each.host for each in config.load().sync_targets] == ["nas", "127.0.0.1"]


def test_a_laptop_has_settings_of_its_own(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, power = config.load().network, config.load().power
    assert (network.follow, network.metered, network.metered_max_bytes) == (True, "ask-no", 10_000_000)
    assert (power.min_battery_percent, power.keep_awake) == (15, True)
    assert config.load().desktop.notifications
    toml.write_text('[network]\nmetered = "never"\n[power]\nmin_battery_percent = 0\nkeep_awake = false\n')
    monkeypatch.setenv("DMEDIA_NETWORK__FOLLOW", "false")
    network, power = config.load().network, config.load().power
    assert (network.follow, network.metered) == (False, "never")
    assert (power.min_battery_percent, power.keep_awake) == (0, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("network = true", "network: should not be true"),
        ('[network]\nmetered = "sometimes"', "network.metered: should be 'never', 'ask-no' or 'always'"),
        ("[network]\nmetered_max_bytes = -1", "network.metered_max_bytes: should be greater"),
        ("[network]\nmetered_max_bytes = true", "network.metered_max_bytes: should not be true"),
        ("[power]\nmin_battery_percent = 101", "power.min_battery_percent: should be less"),
        ("[power]\nmin_battery_percent = nan", "power.min_battery_percent: should be a finite number"),
        ("[power]\nkeep_awake = 5", "power.keep_awake: "),
        ("[desktop]\nnotifications = 7", "desktop.notifications: "),
        ("[power]\nlid = 1", "'power.lid': there is no such setting"),
    ],
)
def test_a_bad_setting_for_a_laptop_is_named(toml: Path, line: str, message: str) -> None:
    toml.write_text(line)
    assert message in refusal()


def test_peers_are_not_served_unless_it_is_said(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not config.load().peer.enabled
    toml.write_text("[peer]\nenabled = true\nport = 6000\n")
    assert (config.load().peer.enabled, config.load().peer.port, config.load().peer.host) == (True, 6000, "")
    monkeypatch.setenv("DMEDIA_PEER__PORT", "0")
    assert (config.load().peer.enabled, config.load().peer.port) == (True, 0)
    assert config.load().peer.addresses == ()
    monkeypatch.setenv("DMEDIA_PEER__ADDRESSES", "home.example.org:443, [2001:db8::7]:5987")
    assert config.load().peer.addresses == ("home.example.org:443", "[2001:db8::7]:5987")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("peer = true", "peer: should not be true"),
        ('peer = "yes"', "peer: should be a valid dictionary"),
        ("[peer]\nport = 70000", "peer.port: should be less than or equal to 65535"),
        ("[peer]\nport = true", "peer.port: should not be true"),
        ("[peer]\npassword = 1", "'peer.password': there is no such setting"),
        ("[peer]\nenabled = 5", "peer.enabled: "),
        ('[peer]\naddresses = ["example.org"]', "peer.addresses: should be host:port"),
        ('[peer]\naddresses = ["example.org:70000"]', "peer.addresses: should be host:port"),
    ],
)
def test_a_bad_setting_for_peers_is_named(toml: Path, line: str, message: str) -> None:
    toml.write_text(line)
    assert message in refusal()


@pytest.mark.parametrize(("name", "value"), [("DMEDIA_PEER", "yes"), ("DMEDIA_PEER__PORT", "x")])
def test_a_bad_variable_for_peers_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert refusal().startswith(f"{name}: peer")
