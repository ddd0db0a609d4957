"""What follows an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmedia_transfer import errors
from dmedia_transfer.model import Failure
from dmedia_transfer.retry import FAIL, MAX_DELAY_S, WORKER_DEATHS, decide
from dmedia_transfer.states import Reason

TRANSIENT = Failure("ConnectionLost", "cut", transient=True)


@given(attempts=st.integers(1, 100_000), chance=st.floats(0, 1, exclude_max=True))
def test_a_transient_error_is_tried_again_for_ever_and_never_later_than_the_longest_delay(
    attempts: int, chance: float
) -> None:
    decision = decide(TRANSIENT, attempts, chance=chance)
    assert decision.reason is Reason.BACKOFF
    assert decision.after_s is not None
    assert 0 <= decision.after_s <= MAX_DELAY_S


def test_the_delay_grows_exponentially_and_is_spread_over_all_of_it() -> None:
    assert [decide(TRANSIENT, attempts, chance=0.5).after_s for attempts in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, 4.0]
    assert decide(TRANSIENT, 9, chance=0.0).after_s == 0.0


def test_nobody_comes_back_before_the_server_said() -> None:
    busy = Failure.of(errors.ServerBusy("SlowDown", retry_after_s=30.0))
    assert decide(busy, 1, chance=0.5).after_s == 30.0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.DiskFull("x"), Reason.DISK_FULL),
        (errors.StoreMissing("x"), Reason.STORE_MISSING),
        (errors.NoSource("x"), Reason.NO_SOURCE),
        (errors.Offline("x"), Reason.OFFLINE),
    ],
)
def test_an_error_with_a_reason_waits_until_it_has_gone_away(error: errors.TransferError, reason: Reason) -> None:
    assert decide(Failure.of(error), 1, chance=0.5).reason is reason


@pytest.mark.parametrize(
    "error",
    [
        errors.CorruptLeaf("F" * 48, 3, "S" * 24),
        errors.AccessDenied("x"),
        errors.ObjectMissing("x"),
        errors.ObjectDiffers("x"),
        errors.SizeDisputed("x"),
        RuntimeError("a fault of ours"),
    ],
)
def test_an_error_that_trying_again_does_not_mend_fails(error: Exception) -> None:
    assert decide(Failure.of(error), 1, chance=0.5) == FAIL


def test_a_job_that_kills_its_workers_is_given_up() -> None:
    lost = Failure.of(errors.WorkerLost("killed by signal 11"))
    assert decide(lost, WORKER_DEATHS - 1, chance=0.5).reason is Reason.BACKOFF
    assert decide(lost, WORKER_DEATHS, chance=0.5) == FAIL
