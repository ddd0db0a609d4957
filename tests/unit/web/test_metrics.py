"""What is told to Prometheus of one moment: names, labels and values; and the dashboard that asks for them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from dmedia_transfer import __version__
from dmedia_transfer.limiter import Limit
from dmedia_transfer.model import Direction, FileOutcome, JobKind, LongJob, Progress, Transfer, TransferKey
from dmedia_transfer.ports import Traffic, Vitals
from dmedia_transfer.states import Reason, Status
from dmedia_transfer.web.counts import KINDS, Totals
from dmedia_transfer.web.disks import Disk
from dmedia_transfer.web.metrics import PREFIX, Snapshot, TransferCollector
from tests.control import EMPTY
from tests.factories import OTHER_STORE_ID, STORE_ID, content, file_spec

FILM, SONG = file_spec(content(10, seed=1)), file_spec(content(10, seed=2))
DOWN, UP = Direction.DOWNLOAD, Direction.UPLOAD
DASHBOARD = Path(__file__).parents[3] / "data" / "grafana" / "dmedia-transfer.json"

FULL = Snapshot(
    summary=replace(
        EMPTY,
        active=1,
        download_rate=7.5,
        queue_paused=True,
        online=False,
        download_limit_bps=5000.0,
        problems=("the database does not answer",),
    ),
    transfers=(
        Transfer(TransferKey(DOWN, FILM.file_id, ""), status=Status.ONGOING, progress=Progress(30, 100)),
        Transfer(TransferKey(DOWN, SONG.file_id, ""), status=Status.SUSPENDED, reason=Reason.NO_SOURCE),
        Transfer(TransferKey(UP, SONG.file_id, STORE_ID), status=Status.DONE, progress=Progress(100, 100)),
    ),
    jobs=(LongJob("J" * 24, JobKind.VERIFY, STORE_ID, outcomes={FileOutcome.CORRUPT: 2, FileOutcome.VERIFIED: 5}),),
    totals=Totals(
        ended=Counter({(DOWN, Status.DONE): 4}),
        failed=Counter({(UP, "AccessDenied"): 1}),
        attempts=Counter({(UP, "AccessDenied"): 1, (DOWN, "Stalled"): 3}),
        retries=Counter({(DOWN, "daemon"): 3}),
    ),
    vitals=Vitals(
        parts={"database": False, "feed": True},
        workers=3,
        peers=2,
        traffic=(Traffic(DOWN, STORE_ID, "s3", 1234), Traffic(DOWN, OTHER_STORE_ID, "peer", 1)),
        served={UP: 77},
    ),
    disks=(Disk(STORE_ID, True, 1000, 400), Disk(OTHER_STORE_ID, False)),
)


def registry(snapshot: Snapshot = FULL) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(TransferCollector(snapshot))
    ProcessCollector(registry=found)
    return found


def value(name: str, labels: dict[str, str], snapshot: Snapshot = FULL) -> float | None:
    return registry(snapshot).get_sample_value(PREFIX + name, labels)


def families(snapshot: Snapshot = FULL) -> list[Metric]:
    return list(text_string_to_metric_families(generate_latest(registry(snapshot)).decode()))


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("transfers", {"direction": "download", "status": "ongoing", "reason": ""}, 1),
        ("transfers", {"direction": "download", "status": "suspended", "reason": "no-source"}, 1),
        ("transfers", {"direction": "upload", "status": "queued", "reason": ""}, 0),
        ("queue_entries", {}, 2),
        ("queue_bytes", {"direction": "download"}, 70),
        ("active_transfers", {}, 1),
        ("queue_paused", {}, 1),
        ("rate_bytes_per_second", {"direction": "download"}, 7.5),
        ("network_bytes_total", {"direction": "download", "store": STORE_ID, "backend": "s3"}, 1234),
        ("network_bytes_total", {"direction": "download", "store": OTHER_STORE_ID, "backend": "peer"}, 1),
        ("peers_served_bytes_total", {"direction": "upload"}, 77),
        ("peers_served_bytes_total", {"direction": "download"}, 0),
        ("ended_total", {"direction": "download", "status": "done"}, 4),
        ("ended_total", {"direction": "upload", "status": "failed"}, 0),
        ("failures_total", {"direction": "upload", "kind": "AccessDenied"}, 1),
        ("failed_attempts_total", {"direction": "download", "kind": "Stalled"}, 3),
        ("retries_total", {"direction": "download", "by": "daemon"}, 3),
        ("retries_total", {"direction": "download", "by": "person"}, 0),
        ("problems", {}, 1),
        ("limit_bytes_per_second", {"direction": "download"}, 5000),
        ("limit_bytes_per_second", {"direction": "upload"}, math.inf),
        ("limit_transfers", {}, 4),
        ("limit_connections", {}, 4),
        ("jobs", {"kind": "verify", "status": "queued"}, 1),
        ("jobs", {"kind": "import", "status": "queued"}, 0),
        ("job_problem_files", {"kind": "verify"}, 2),
        ("filestore_up", {"store": STORE_ID}, 1),
        ("filestore_up", {"store": OTHER_STORE_ID}, 0),
        ("filestore_size_bytes", {"store": STORE_ID}, 1000),
        ("filestore_free_bytes", {"store": STORE_ID}, 400),
        ("filestore_free_bytes", {"store": OTHER_STORE_ID}, None),
        ("part_up", {"part": "database"}, 0),
        ("part_up", {"part": "feed"}, 1),
        ("online", {}, 0),
        ("metered", {}, 0),
        ("peers", {}, 2),
        ("workers", {}, 3),
    ],
)
def test_it_is_told_as_it_is(name: str, labels: dict[str, str], expected: float | None) -> None:
    assert value(name, labels) == expected


def test_the_version_is_a_label() -> None:
    (info,) = [one for one in families() if one.name == f"{PREFIX}build_info"]
    assert info.samples[0].labels["version"] == __version__


@pytest.mark.parametrize(
    ("allowed", "download", "upload"),
    [(Limit(2000.0), 2000, 2000), (Limit(9000.0), 5000, 9000), (Limit(stop=True), 0, 0)],
)
def test_the_limit_is_the_one_in_force(allowed: Limit, download: float, upload: float) -> None:
    now = replace(FULL, allowed=allowed)
    assert value("limit_bytes_per_second", {"direction": "download"}, now) == download
    assert value("limit_bytes_per_second", {"direction": "upload"}, now) == upload


def test_names_keep_the_conventions_of_prometheus() -> None:
    for family in families():
        assert family.documentation, family.name
        assert family.name.startswith((PREFIX, "process_"))
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", family.name)
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            if "bytes" in family.name:
                assert re.search(r"_bytes(_total|_per_second)?$", sample.name), sample.name


def test_the_formats_of_prometheus_and_openmetrics_tell_the_same() -> None:
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    openmetrics = parse_openmetrics(encode(registry()).decode())  # type: ignore[no-untyped-call] # theirs has no types
    assert told(openmetrics) == told(families())


def told(found: Iterable[Metric]) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
    samples = [one for family in found if family.name.startswith(PREFIX) for one in family.samples]
    return {(one.name, tuple(sorted(one.labels.items())), one.value) for one in samples}


def test_however_many_transfers_there_are_the_series_stay_few_and_no_file_is_named() -> None:
    many = [
        Transfer(
            TransferKey(direction, f"{number:048d}".translate(str.maketrans("0189", "ABCD")), ""),
            status=status,
            reason=reason,
        )
        for number in range(20)
        for direction in Direction
        for status in Status
        for reason in (Reason if status is Status.SUSPENDED else (None,))
    ]
    every = Totals(
        ended=FULL.totals.ended,
        failed=Counter({(direction, kind): 1 for direction in Direction for kind in KINDS}),
        attempts=Counter({(direction, kind): 1 for direction in Direction for kind in KINDS}),
        retries=FULL.totals.retries,
    )
    samples = [one for family in families(replace(FULL, transfers=many, totals=every)) for one in family.samples]
    assert len(samples) < 300
    text = json.dumps([one.labels for one in samples])
    assert not any(one.key.file_id in text for one in many)


# The dashboard.


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def expressions() -> Iterator[str]:
    found = dashboard()
    yield from (target["expr"] for panel in found["panels"] for target in panel.get("targets", ()))
    yield from (one["definition"] for one in found["templating"]["list"] if one["type"] == "query")


def labels_by_metric() -> Mapping[str, set[str]]:
    return {sample.name: set(sample.labels) for family in families() for sample in family.samples}


def test_all_that_the_dashboard_asks_for_is_told() -> None:
    asked = {name for each in expressions() for name in re.findall(rf"\b(?:{PREFIX}|process_)\w+", each)}
    assert len(asked) > 20
    assert asked - set(labels_by_metric()) == set()


def test_the_dashboard_groups_and_names_by_labels_that_are_there() -> None:
    there = labels_by_metric()
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            names = re.findall(rf"\b(?:{PREFIX}|process_)\w+", target["expr"])
            known = set.intersection(*(there[name] for name in names)) | {"instance", "job"}
            grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            used = {label.strip() for each in grouped for label in each.split(",")}
            used |= set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", target["expr"]))
            assert used <= known, target["expr"]
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            left = {label.strip() for each in grouped for label in each.split(",")} if grouped else known
            assert legend <= left, target["legendFormat"]


def test_the_dashboard_has_a_row_for_each_subject_and_panels_that_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert [one["title"] for one in panels if one["type"] == "row"] == ["Rates", "Queue", "Failures", "Stores"]
    assert len({one["id"] for one in panels}) == len(panels)
    for one in panels:
        place = one["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, one["title"]
    for one, other in combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (one["title"], other["title"])


def test_the_dashboard_belongs_to_no_installation_of_grafana() -> None:
    found = dashboard()
    assert found["id"] is None
    assert found["schemaVersion"] >= 36
    variables = {one["name"]: one for one in found["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    panels = [one for one in found["panels"] if one["type"] != "row"]
    asking = [*panels, *(target for one in panels for target in one["targets"])]
    asking += [one for one in variables.values() if one["type"] == "query"]
    assert all(each["datasource"] == chosen for each in asking)
    used = {name for each in expressions() for name in re.findall(r"\$(\w+)", each)}
    assert used - {"__rate_interval", "__range"} <= set(variables)
    for one in panels:
        assert one["title"]
        assert one["description"]
        assert len({target["refId"] for target in one["targets"]}) == len(one["targets"]) > 0
