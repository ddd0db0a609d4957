"""The machine as a whole: summary, the queue's pause, limits, problems, history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from dmedia_transfer.advice import what_to_do
from dmedia_transfer.limiter import Limit, Timetable
from dmedia_transfer.model import Transfer
from dmedia_transfer.ports import Summary
from dmedia_transfer.states import Status
from dmedia_transfer.web import answers, jobs
from dmedia_transfer.web.api import Api
from dmedia_transfer.web.edges import EndedTransfer
from dmedia_transfer.web.models import (
    Changed,
    FromThen,
    History,
    HistoryLine,
    HistoryQuery,
    LimitsOut,
    NewLimits,
    OfMachine,
    QueueOut,
    SummaryOut,
    TroubleOut,
    Troubles,
    transfer_id,
)
from dmedia_transfer.web.routes import Route

TAG = "machine"
MOST_TROUBLES = 1000  # transfers that have failed or wait for something, told one by one


async def show_summary(api: Api, query: OfMachine) -> SummaryOut:
    """Show a machine as a whole."""
    machine = await api.other_machine(query.machine)
    return await (answers.summary(api) if machine is None else answers.summary_of(api, machine))


async def show_queue(api: Api, query: OfMachine) -> QueueOut:
    """Show whether the whole queue is held."""
    machine = await api.other_machine(query.machine)
    if machine is None:
        summary = await api.main(api.edges.control.summary)
        entries = sum(not one.status.ended for one in api.board.transfers.values())
        return QueueOut(paused=summary.queue_paused, entries=entries)
    queue = api.edges.machine_queue(machine["_id"])
    return QueueOut(paused=await api.bridge.thread(queue.held), entries=len(await api.bridge.thread(queue.transfers)))


async def pause_queue(api: Api, query: OfMachine) -> Changed:
    """Hold the whole queue, and what comes into it later; each transfer keeps its own status."""
    return await _hold(api, query, held=True)


async def resume_queue(api: Api, query: OfMachine) -> Changed:
    """Let the whole queue go on; what was paused by itself stays paused."""
    return await _hold(api, query, held=False)


async def _hold(api: Api, query: OfMachine, *, held: bool) -> Changed:
    machine = await api.other_machine(query.machine)
    control = api.edges.control
    if machine is None:
        return Changed(changed=await api.main(control.pause_all if held else control.resume_all))
    return Changed(changed=await api.bridge.thread(api.edges.machine_queue(machine["_id"]).hold, held))


async def show_limits(api: Api) -> LimitsOut:
    """Show what transfers may use, and what the timetable says now."""
    return _limits(await api.main(api.edges.control.summary))


async def change_limits(api: Api, body: NewLimits) -> LimitsOut:
    """Change limits from now on; what is left out stays. After a restart the configuration holds again."""
    given: dict[str, Any] = body.model_dump(exclude_none=True, exclude={"timetable"})
    if body.timetable is not None:
        entries = {each.time: f"{each.time} {Limit(each.bps, each.stop)}" for each in body.timetable}
        given["timetable"] = ", ".join(entries.values())
    if given:
        await api.main(api.edges.control.set_limits, **given)
    return await show_limits(api)


def _limits(summary: Summary) -> LimitsOut:
    timetable, now = Timetable.parse(summary.timetable), datetime.now()  # noqa: DTZ005 - local time, as people mean it
    allowed, later = timetable.at(now), timetable.next_change(now)
    return LimitsOut(
        download_bps=summary.download_limit_bps,
        upload_bps=summary.upload_limit_bps,
        max_transfers=summary.max_transfers,
        connections=summary.connections,
        timetable=[
            FromThen(time=f"{at:%H:%M}", bps=None if limit.rate_bps is None else round(limit.rate_bps), stop=limit.stop)
            for at, limit in timetable.entries
        ],
        timetable_bps=allowed.rate_bps,
        stopped=allowed.stop,
        next_change=later.timestamp() if later is not None else None,
    )


async def list_problems(api: Api, query: OfMachine) -> Troubles:
    """List what a person should look at, and what to do about it."""
    machine = await api.other_machine(query.machine)
    if machine is None:
        told: Sequence[str] = (await api.main(api.edges.control.summary)).problems
        transfers = list(api.board.in_order("urgency"))
    else:
        queue = api.edges.machine_queue(machine["_id"])
        told = await api.bridge.thread(queue.problems)
        transfers = list(await api.bridge.thread(queue.transfers))
    items = [
        TroubleOut(message=each, advice=what_to_do(each), transfer_id=None, file_id=None, job_id=None, can=[])
        for each in told
    ]
    troubled = (one for one in transfers if one.failure is not None and one.status in (Status.FAILED, Status.SUSPENDED))
    items += [_trouble(one) for one in islice(troubled, MOST_TROUBLES)]
    if machine is None:
        items += await jobs.troubles(api)
    return Troubles(items=items)


def _trouble(transfer: Transfer) -> TroubleOut:
    failure = transfer.failure
    message, kind = (failure.message, failure.kind) if failure is not None else ("", "")
    return TroubleOut(
        message=message,
        advice=what_to_do(message, kind=kind, reason=transfer.reason),
        transfer_id=transfer_id(transfer.key),
        file_id=transfer.key.file_id,
        job_id=None,
        can=["retry", "cancel"] if transfer.status is Status.FAILED else ["cancel"],
    )


async def list_history(api: Api, query: HistoryQuery) -> History:
    """List what has ended, the latest first; what has failed may have been tried again since.

    Another machine tells of the last twenty only.
    """
    machine = await api.other_machine(query.machine)
    if machine is None:
        lines: Sequence[EndedTransfer] = await api.bridge.thread(api.edges.history)
    else:
        lines = await api.bridge.thread(answers.history_of, api, machine["_id"])
    wanted = [line for line in lines if not query.status or str(line.status) in query.status]
    page = wanted[query.offset : query.offset + query.limit]
    names = await api.facts.names(line.key.file_id for line in page)
    return History(items=[_line(line, names[line.key.file_id]) for line in page], total=len(wanted))


def _line(line: EndedTransfer, name: str | None) -> HistoryLine:
    return HistoryLine(
        id=transfer_id(line.key),
        action=line.key.direction,
        file_id=line.key.file_id,
        store_id=line.key.store_id,
        name=name,
        status=line.status,
        error=str(line.failure or ""),
        time=line.time,
        bytes=line.bytes,
    )


ROUTES = (
    Route("GET", "/summary", show_summary, TAG),
    Route("GET", "/queue", show_queue, TAG),
    Route("POST", "/queue/pause", pause_queue, TAG),
    Route("POST", "/queue/resume", resume_queue, TAG),
    Route("GET", "/limits", show_limits, TAG),
    Route("PATCH", "/limits", change_limits, TAG),
    Route("GET", "/problems", list_problems, TAG),
    Route("GET", "/history", list_history, TAG),
)
