"""Labels that say that a part is good: what is found of them stops nothing."""

from collections.abc import Collection

GOOD_LABELS = frozenset(
    {"good", "normal", "ok", "free", "none", "no defect", "defect-free", "functional"}
)
"""What people call a good part, in small letters, where nobody named the labels."""


def says_good(label: str, *, named: Collection[str] = ()) -> bool:
    """Whether a label means a good part.

    Args:
        label: as the package says it.
        named: the good labels of the inspection; empty: the usual words.
    """
    return label in named if named else label.lower() in GOOD_LABELS
