"""Error and attempt in, decision out: the one place where errors are sorted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dmedia_transfer.model import Failure
from dmedia_transfer.states import Reason

FIRST_DELAY_S: Final = 1.0
MAX_DELAY_S: Final = 300.0
WORKER_DEATHS: Final = 5  # in a row, with no leaf in between: the job itself kills workers


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do after a failure."""

    reason: Reason | None  # suspend for this reason; None: the transfer has failed
    after_s: float | None = None  # with `backoff`: seconds to wait; other reasons go away by themselves


FAIL: Final = Decision(None)


def decide(failure: Failure, attempts: int, *, chance: float) -> Decision:
    """Decide what follows a failure.

    Transient errors are tried again for as long as somebody wants the file, after an exponential delay with full
    jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), and not before the server's
    own `Retry-After`. A reason that has to go away first suspends until it does. All else fails: a corrupt leaf was
    fetched again and from elsewhere before it came here.

    Args:
        failure: What went wrong.
        attempts: How many attempts in a row have failed, this one included, with no leaf in between.
        chance: A random number in [0, 1).
    """
    if failure.reason is not None:
        return Decision(failure.reason)
    if not failure.transient or (failure.kind == "WorkerLost" and attempts >= WORKER_DEATHS):
        return FAIL
    # The exponent is bounded before the power is taken: a night offline makes thousands of attempts.
    ceiling = min(MAX_DELAY_S, FIRST_DELAY_S * 2 ** min(attempts - 1, 16))
    return Decision(Reason.BACKOFF, max(chance * ceiling, failure.retry_after_s or 0.0))
