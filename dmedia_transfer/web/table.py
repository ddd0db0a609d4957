"""The table of all routes, and the sections of its description."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from dmedia_transfer.web import content, events, jobs, meta, openapi, places, queue, scrape, transfers, uploads
from dmedia_transfer.web.routes import Table

TAGS: Final = {
    transfers.TAG: "Downloads and uploads: asked for, looked at, steered.",
    queue.TAG: "A machine as a whole: its queue, limits, problems and history.",
    jobs.TAG: "The long jobs: imports and verifications.",
    places.TAG: "The machines of the library, the stores, and the files in them.",
    uploads.TAG: "New files, by tus 1.0 (https://tus.io): from a browser, or any client of it.",
    events.TAG: "What happens, as it happens.",
    scrape.TAG: "Numbers for Prometheus.",
    meta.TAG: "This description, and links to the page.",
}

TABLE: Final = Table(
    (
        *transfers.ROUTES,
        *queue.ROUTES,
        *jobs.ROUTES,
        *places.ROUTES,
        *content.ROUTES,
        *uploads.ROUTES,
        *events.ROUTES,
        *scrape.ROUTES,
        *meta.ROUTES,
    ),
)


@cache
def description() -> dict[str, Any]:
    """The OpenAPI document."""
    return openapi.describe(TABLE.routes, TAGS)
