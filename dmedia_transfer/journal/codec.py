"""Edits, failures and jobs to JSON and back, without loss."""

from __future__ import annotations

import json
from typing import Any, Final, get_args

from pydantic import TypeAdapter

from dmedia_transfer.model import Edit, Failure, JobProblem, LongJob

_encode: Final = json.JSONEncoder(separators=(",", ":")).encode  # made once: there may be thousands of edits
_failure: Final = TypeAdapter(Failure)
_job: Final = TypeAdapter(LongJob)
_problem: Final = TypeAdapter(JobProblem)
# By the name of the class, which is so a part of the journal's format.
_edits: Final[dict[str, TypeAdapter[Any]]] = {kind.__name__: TypeAdapter(kind) for kind in get_args(Edit)}


def write_edit(edit: Edit) -> str:
    """An edit as it is kept in the outbox."""
    kind = type(edit).__name__
    return _encode({kind: _edits[kind].dump_python(edit)})


def beginning_of(kind: type[Edit]) -> str:
    """How all edits of a kind begin, as they are kept in the outbox."""
    return f'{{"{kind.__name__}":'


def read_edit(text: str) -> Edit:
    """The way back."""
    [(kind, fields)] = json.loads(text).items()
    edit: Edit = _edits[kind].validate_python(fields)
    return edit


def write_failure(failure: Failure | None) -> str | None:
    """A failure as it is kept in a table."""
    return None if failure is None else _encode(_failure.dump_python(failure))


def read_failure(text: str) -> Failure:
    """The way back."""
    return _failure.validate_python(json.loads(text))


def write_job(job: LongJob) -> str:
    """A long job as it is kept in a table. A path that is no text keeps its bytes (as lone surrogates)."""
    return _encode(_job.dump_python(job))


def read_job(text: str) -> LongJob:
    """The way back."""
    return _job.validate_python(json.loads(text))


def write_problem(problem: JobProblem | None) -> str | None:
    """A problem of a job as it is kept in a table."""
    return None if problem is None else _encode(_problem.dump_python(problem))


def read_problem(text: str) -> JobProblem:
    """The way back."""
    return _problem.validate_python(json.loads(text))
