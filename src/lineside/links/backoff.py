"""How long to wait before trying a lost link again."""

import secrets

_STEPS = 1000


def backoff_s(attempt: int, *, first_s: float = 0.1, most_s: float = 15.0) -> float:
    """Seconds before attempt number ``attempt`` (0 is the first retry).

    Doubles from ``first_s`` up to ``most_s``; a random half of it is taken off, so that many
    clients of one broker do not come back in the same instant.
    """
    whole_s = min(most_s, first_s * 2.0 ** min(attempt, 30))
    return whole_s * (0.5 + secrets.randbelow(_STEPS) / (2 * _STEPS))
