"""Look for leaks between what was learned from and what a package is measured on.

A dataset version carries its own leak report; of any other source nobody has looked yet.
"""

from dataclasses import dataclass

from lineside.datasets import Leak, LookLimits, Part, check_leaks, look_at
from lineside.training.source import Data

_MOST_PICTURES = 3000
_MOST_REGISTERED = 0
OF_VERSION = "as the dataset version says"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedFor:
    """The leaks, and in words how they were looked for; "" where nobody looked."""

    leaks: tuple[Leak, ...]
    how: str


def leaks_of(data: Data, *, of_version: bool) -> LookedFor:
    """Pairs that a split may not part, of a version as it says, else looked for now."""
    if of_version:
        return LookedFor(leaks=data.leaks, how=OF_VERSION)
    if not data.validation:
        return LookedFor(leaks=(), how="")
    everyone = (*data.training, *data.validation)
    parts = [Part.TRAIN] * len(data.training) + [Part.TEST] * len(data.validation)
    looks, by = look_at(
        everyone,
        read=data.read,
        limits=LookLimits(pictures=_MOST_PICTURES, registered=_MOST_REGISTERED),
    )
    found = check_leaks(everyone, looks, parts=parts)
    how = "; ".join([by or "digests and groups alone", *found.check.gaps])
    return LookedFor(leaks=found.leaks, how=how)
