"""Whether a package is for this machine, and answers what its inspection in the plant file asks.

1. It names this machine among those it is built for, or names none.
2. It carries out the inspection's task.
3. It says no label that the inspection does not have: nobody would know what to do with it, and a
   package made for other names is most likely made for other parts. An inspection without labels
   takes any.
"""

from collections.abc import Iterable

from lineside.core import Inspection, RefusedError
from lineside.models import Manifest


def check_machine(manifest: Manifest, machine: str) -> None:
    """Refuse a package that is built for other machines.

    Raises:
        RefusedError: it names others, and not this one.
    """
    if manifest.targets and machine not in manifest.targets:
        raise RefusedError(
            f"the package is built for {', '.join(manifest.targets)}, this is {machine}",
            where=manifest.name,
            fix="Load a package of this machine.",
        )


def check_suits(manifest: Manifest, inspections: Iterable[Inspection]) -> None:
    """Refuse a package that its inspection cannot use; one of an inspection elsewhere passes.

    Raises:
        RefusedError: another task, or other labels.
    """
    asked = next((one for one in inspections if one.id == manifest.inspection), None)
    if asked is None:
        return
    if manifest.task != asked.task.value:
        raise RefusedError(
            f"the package answers {manifest.task}, inspection {asked.id!r} asks for "
            f"{asked.task.value}",
            where="task",
            fix="Train it for this inspection, or change the plant file.",
        )
    known = sorted(asked.known_labels)
    strange = [name for name in said_by(manifest) if name not in known]
    if known and strange:
        raise RefusedError(
            f"the package says {', '.join(map(repr, strange[:5]))}, which inspection "
            f"{asked.id!r} does not have",
            where="labels",
            fix=f"It has {', '.join(known)}. Train the package for them, or change the plant file.",
        )


def said_by(manifest: Manifest) -> tuple[str, ...]:
    """Every label the package can say, once, without its region."""
    ruled = tuple(rule.label for rule in manifest.rules)
    return tuple(dict.fromkeys(ruled or manifest.labels))
