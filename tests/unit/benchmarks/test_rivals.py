"""The programs beside ours get an environment of the benchmark's, and the words that they understand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import rivals

FOLDER = Path("/there")


def test_what_the_machine_sets_for_other_purposes_is_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CA_BUNDLE", "AWS_PROFILE", "https_proxy", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("LANG", "C.UTF-8")
    environment = rivals.environment()
    assert "ours" not in environment.values()
    assert environment["LANG"] == "C.UTF-8"
    assert environment["AWS_ACCESS_KEY_ID"]


@pytest.mark.parametrize("rival", rivals.RIVALS, ids=lambda rival: rival.name)
def test_each_is_told_where_from_and_where_to(rival: rivals.Rival) -> None:
    up = rival.command("http://127.0.0.1:1", "up", FOLDER, ["film"])
    down = rival.command("http://127.0.0.1:1", "down", FOLDER, ["film"])
    assert Path(up[0]).is_absolute()
    assert up != down
    assert sorted(up) == sorted(down) or set(up) ^ set(down) == {"up", "down"}
    assert any("http://127.0.0.1:1" in word for word in up)
    assert any("film" in word for word in up)
    many = rival.command("http://127.0.0.1:1", "up", FOLDER, ["one", "two"])
    assert any(str(FOLDER) in word for word in many)


def test_boto3_is_warm_when_its_first_file_comes() -> None:
    boto3 = rivals.WarmBoto3("http://127.0.0.1:9")
    try:
        assert boto3.pid > 0
        with pytest.raises(RuntimeError, match="did not say done"):
            boto3.move("up", FOLDER, ["film"], at_once=1)
    finally:
        boto3.close()
