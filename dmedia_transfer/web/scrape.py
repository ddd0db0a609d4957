"""Scrape: everything is looked at when Prometheus asks, and told in the format that it takes."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from dmedia_transfer.limiter import Timetable
from dmedia_transfer.ports import Summary, Vitals
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.counts import Totals
from dmedia_transfer.web.metrics import Snapshot, TransferCollector
from dmedia_transfer.web.routes import Answer, Route

TAG = "metrics"


async def show_metrics(api: Api, request: web.BaseRequest) -> web.StreamResponse:
    """Tell the metrics, for Prometheus.

    In its text format, or in that of OpenMetrics for those who accept it. The names begin with `dmedia_transfer_`;
    the memory, processor time and open files of the daemon itself begin with `process_`.
    """
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    registry = CollectorRegistry()  # of this scrape only, so that no two can meet
    registry.register(TransferCollector(await snapshot(api)))
    ProcessCollector(registry=registry)
    return web.Response(body=encode(registry), headers={"Content-Type": content_type})


async def snapshot(api: Api) -> Snapshot:
    """Look at everything."""
    disks = await api.disks.all()
    summary, totals, vitals = await api.main(_look, api)
    return Snapshot(
        summary=summary,
        transfers=api.board.transfers.values(),
        jobs=api.board.jobs.values(),
        totals=totals,
        vitals=vitals,
        disks=disks,
        allowed=Timetable.parse(summary.timetable).at(datetime.now()),  # noqa: DTZ005 - local time, as people mean it
    )


def _look(api: Api) -> tuple[Summary, Totals, Vitals]:
    """What is the manager's, on its thread."""
    return api.edges.control.summary(), api.counts.totals(), api.edges.vitals()


ROUTES = (
    Route(
        "GET",
        "/metrics",
        show_metrics,
        TAG,
        raw=True,
        base="",
        answers=(Answer(200, "All metrics", "text/plain"),),
    ),
)
