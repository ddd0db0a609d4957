"""The stores that this machine can use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from dmedia_transfer import documents, localstores, ports
from dmedia_transfer.bindings import Bindings
from dmedia_transfer.errors import AccessDenied, InvalidDocument, StoreMissing, Unknown
from dmedia_transfer.filestore import FileStore, FileStores
from dmedia_transfer.localstores import LocalStores
from tests import factories

LOCAL, CLOUD = factories.STORE_ID, factories.OTHER_STORE_ID


def s3_store(**settings: Any) -> dict[str, Any]:
    """The document of an S3 store."""
    return {**documents.new_store(CLOUD, "s3", time=1.0, bucket="films", region="eu-1"), **settings}


@pytest.fixture
def bindings(tmp_path: Path) -> Bindings:
    """A list with one FileStore."""
    bindings = Bindings(tmp_path / "stores.json")
    FileStore.create(tmp_path / "local", LOCAL)
    bindings.add_filestore(LOCAL, tmp_path / "local")
    return bindings


def make(bindings: Bindings, plugins: Collection[str] = ()) -> LocalStores:
    """The stores of a machine with this list."""
    filestores = FileStores(bindings.filestores, floor_bytes=0)
    return LocalStores(bindings=bindings, filestores=filestores, plugins=lambda: plugins)


@pytest.fixture
def stores(bindings: Bindings) -> LocalStores:
    """The stores of a machine with one FileStore and no foreign backends."""
    return make(bindings)


def test_it_is_what_the_core_expects(stores: LocalStores) -> None:
    expected: ports.Stores = stores
    assert expected is stores


def test_a_filestore_of_this_machine_needs_no_document(stores: LocalStores, tmp_path: Path) -> None:
    spec = stores.spec(LOCAL)
    assert (spec.plugin, spec.local, spec.cost) == ("filestore", True, 0)
    assert FileStore.of(spec).root == tmp_path / "local"


def test_a_filestore_that_is_not_mounted_is_missing(stores: LocalStores, tmp_path: Path) -> None:
    (tmp_path / "local").rename(tmp_path / "away")
    with pytest.raises(StoreMissing, match=LOCAL):
        stores.spec(LOCAL)


def test_a_filestore_of_another_machine_is_missing(stores: LocalStores) -> None:
    stores.on_store(documents.new_store(CLOUD, "filestore", time=1.0, machine_id=factories.MACHINE_ID))
    with pytest.raises(StoreMissing, match=f"another machine.*{factories.MACHINE_ID}"):
        stores.spec(CLOUD)


def test_no_document_can_take_the_place_of_a_filestore_of_this_machine(stores: LocalStores) -> None:
    stores.on_store({**s3_store(), "_id": LOCAL})
    assert stores.spec(LOCAL).plugin == "filestore"


def test_an_s3_store_that_was_enabled_is_used_with_all_its_settings(bindings: Bindings, stores: LocalStores) -> None:
    raw = s3_store(prefix="films/", use_ext=True, unknown="key")
    bindings.enable(raw)
    stores.on_store(raw)
    spec = stores.spec(CLOUD)
    assert (spec.plugin, spec.local, spec.cost) == ("s3", False, 100)
    assert spec.settings == {
        "bucket": "films",
        "endpoint_url": "",
        "region": "eu-1",
        "prefix": "films/",
        "use_ext": True,
        "use_subdir": False,
        "storage_class": "",
    }


def test_a_document_may_say_what_its_store_costs(bindings: Bindings, stores: LocalStores) -> None:
    bindings.enable(s3_store())
    stores.on_store(s3_store(cost=7))
    assert stores.spec(CLOUD).cost == 7


def test_a_store_that_was_not_enabled_or_has_changed_is_refused(bindings: Bindings, stores: LocalStores) -> None:
    stores.on_store(s3_store())
    with pytest.raises(AccessDenied, match="was not enabled"):
        stores.spec(CLOUD)
    bindings.enable(s3_store())
    stores.spec(CLOUD)
    stores.on_store(s3_store(bucket="others"))
    with pytest.raises(AccessDenied, match="bucket from 'films' to 'others'"):
        stores.spec(CLOUD)


def test_a_store_without_a_document_is_unknown(stores: LocalStores) -> None:
    with pytest.raises(Unknown, match=CLOUD):
        stores.spec(CLOUD)
    stores.on_store(s3_store())
    stores.on_store_gone(CLOUD)
    stores.on_store_gone(CLOUD)
    with pytest.raises(Unknown, match=CLOUD):
        stores.spec(CLOUD)


def test_a_plugin_that_is_not_installed_is_named_with_its_document(stores: LocalStores) -> None:
    stores.on_store(documents.new_store(CLOUD, "webdav", time=1.0))
    with pytest.raises(Unknown, match=f"document {CLOUD}.*'webdav'.*dmedia_transfer.backends"):
        stores.spec(CLOUD)


def test_a_plugin_that_is_installed_gets_its_settings(bindings: Bindings) -> None:
    raw = documents.new_store(CLOUD, "webdav", time=1.0, name="dav", server="https://dav.example.com")
    stores = make(bindings, {"webdav"})
    stores.on_store(raw)
    with pytest.raises(AccessDenied):
        stores.spec(CLOUD)
    bindings.enable(raw)
    spec = stores.spec(CLOUD)
    assert (spec.plugin, spec.settings, spec.cost) == ("webdav", {"server": "https://dav.example.com"}, 100)


def test_no_document_says_how_another_machine_is_reached(bindings: Bindings) -> None:
    raw = documents.new_store(CLOUD, "peer", time=1.0, machine_id="M" * 24, addresses=["198.51.100.7:1"])
    bindings.enable(raw)
    stores = make(bindings, {"peer"})
    stores.on_store(raw)
    with pytest.raises(Unknown, match="no backend 'peer'"):
        stores.spec(CLOUD)


def test_plugins_are_found_by_their_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        name = "webdav"

    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda *, group: {"dmedia_transfer.backends": [Point]}[group]
    )
    assert localstores.registered_plugins() == {"webdav"}


@pytest.mark.parametrize("bad", [{"bucket": ""}, {"plugin": 5}, {"copies": -1}])
def test_a_document_that_cannot_be_believed_leaves_the_last_good_one(
    bindings: Bindings, stores: LocalStores, bad: dict[str, Any]
) -> None:
    bindings.enable(s3_store())
    stores.on_store(s3_store())
    with pytest.raises(InvalidDocument, match=CLOUD):
        stores.on_store(s3_store(**bad))
    assert stores.spec(CLOUD).settings["bucket"] == "films"
    assert stores.known() == [s3_store()]


def test_local_files_are_looked_for_in_the_filestores(stores: LocalStores, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    store = FileStore.of(stores.destination("A" * 48, 10))
    imported = store.import_file(source)
    assert [spec.store_id for spec in stores.holding(imported.file_id)] == [LOCAL]
    assert stores.path(imported.file_id) == str(store.path(imported.file_id))
    assert stores.partial(imported.file_id) is None
    store.partial("A" * 48, 10).close()
    assert stores.partial("A" * 48) == stores.spec(LOCAL)


def test_a_survey_has_what_the_stores_have_and_looks_each_up_once(
    stores: LocalStores, bindings: Bindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores.on_store(s3_store())
    bindings.enable(s3_store())
    looked: list[str] = []
    document = stores.document

    def look(store_id: str) -> Mapping[str, Any]:
        looked.append(store_id)
        return document(store_id)

    monkeypatch.setattr(stores, "document", look)
    with stores.survey() as survey:
        assert survey.spec(CLOUD) is survey.spec(CLOUD)
        assert survey.spec(LOCAL) == stores.spec(LOCAL)
        assert survey.destination("A" * 48, 10) == stores.destination("A" * 48, 10)
        assert survey.holding("A" * 48) == []
        with pytest.raises(Unknown):
            survey.spec("X" * 24)
    assert looked == [CLOUD, "X" * 24]


class FakePeers:
    """Another machine that can be reached, or not."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem

    def settings(self, machine_id: str) -> dict[str, Any]:
        if self.problem:
            raise StoreMissing(f"machine {machine_id} {self.problem}")
        return {"machine_id": machine_id, "addresses": ["192.0.2.7:5987"]}


def with_peers(bindings: Bindings, peers: FakePeers) -> LocalStores:
    """The stores of a machine that speaks to others."""
    filestores = FileStores(bindings.filestores, floor_bytes=0)
    return LocalStores(bindings=bindings, filestores=filestores, peers=peers, machine_id="O" * 24)


def of_machine(machine_id: str, **settings: Any) -> dict[str, Any]:
    """The document of another machine's FileStore."""
    return documents.new_store(CLOUD, "filestore", time=1.0, machine_id=machine_id, **settings)


def test_a_filestore_of_a_machine_that_is_trusted_needs_no_enabling(bindings: Bindings) -> None:
    stores = with_peers(bindings, FakePeers())
    stores.on_store(of_machine(factories.MACHINE_ID))
    spec = stores.spec(CLOUD)
    assert (spec.plugin, spec.local, spec.cost) == ("peer", False, 10)
    assert spec.settings == {"machine_id": factories.MACHINE_ID, "addresses": ["192.0.2.7:5987"]}
    stores.on_store(of_machine(factories.MACHINE_ID, cost=90))
    assert stores.spec(CLOUD).cost == 90


def test_a_filestore_of_a_machine_that_cannot_be_reached_says_why(bindings: Bindings) -> None:
    stores = with_peers(bindings, FakePeers("is not trusted"))
    stores.on_store(of_machine(factories.MACHINE_ID))
    with pytest.raises(StoreMissing, match=f"{CLOUD} is a FileStore of another machine: .*is not trusted"):
        stores.spec(CLOUD)


def test_a_filestore_that_no_machine_has_or_whose_folder_we_do_not_know_is_missing(bindings: Bindings) -> None:
    stores = with_peers(bindings, FakePeers())
    stores.on_store(documents.new_store(CLOUD, "filestore", time=1.0))
    with pytest.raises(StoreMissing, match="names no machine"):
        stores.spec(CLOUD)
    stores.on_store(of_machine("O" * 24))
    with pytest.raises(StoreMissing, match="add-filestore"):
        stores.spec(CLOUD)


def test_where_somebody_logged_in_is_said_as_long_as_the_store_stays_where_it_is(
    bindings: Bindings, stores: LocalStores
) -> None:
    raw = s3_store()
    bindings.enable(raw)
    stores.on_store(raw)
    assert stores.spec(CLOUD).login == ""
    bindings.log_in(raw)
    assert stores.spec(CLOUD).login == "keyring"
    bindings.log_in(raw, profile="films")
    assert stores.spec(CLOUD).login == "profile:films"
    moved = s3_store(bucket="elsewhere")
    bindings.enable(moved)
    stores.on_store(moved)
    assert stores.spec(CLOUD).login == ""
    stores.on_store(raw)
    bindings.enable(raw)
    assert stores.spec(CLOUD).login == "profile:films"
    assert bindings.log_out(CLOUD)
    assert not bindings.log_out(CLOUD)
    assert stores.spec(CLOUD).login == ""
