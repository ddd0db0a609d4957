"""How long to wait before a server that failed us is asked again."""

from __future__ import annotations

import random
from typing import Final

from dmedia_transfer.errors import AccessDenied, TransferError

PAUSE_MIN_S: Final = 0.1
PAUSE_MAX_S: Final = 30.0
DENIED_PAUSE_S: Final = 15.0  # CouchDB locks an account for minutes after five wrong passwords in a row


def pause_s(problem: TransferError | None, attempt: int) -> float:
    """Seconds until the next attempt: exponential with full jitter, so that many devices do not come at once.

    Args:
        problem: What went wrong, if that is known; a server that says when to come back is heeded.
        attempt: How many attempts in a row have failed.
    """
    if isinstance(problem, AccessDenied):
        return random.uniform(DENIED_PAUSE_S, 2 * DENIED_PAUSE_S)  # noqa: S311 - no secret
    # The exponent is bounded before the power is taken: a night offline makes thousands of attempts.
    wait_s = random.uniform(0, min(PAUSE_MAX_S, PAUSE_MIN_S * 2 ** min(attempt, 16)))  # noqa: S311 - no secret
    return max(wait_s, problem.retry_after_s or 0.0) if problem else wait_s
