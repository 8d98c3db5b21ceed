"""Messages of devices on a plant's topic: a short JSON object for each answer of an inspection.

Others' names for others' systems: each field of the message is named here, and says one thing of
the answer (``TOLD``). Keys stand in the order of the plant file, with a blank after colon and
comma, so that a message can have the very bytes that a system before wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lineside.core.checks import refuse, unless

# What a field may say, and the tasks that have it; empty for all.
_NAMED = ("classify", "multilabel", "detect")
TOLD: Mapping[str, tuple[str, ...]] = {
    "label": _NAMED,
    "percent": _NAMED,
    "score": (*_NAMED, "anomaly"),
    "second": ("classify", "multilabel"),
    "second_score": ("classify", "multilabel"),
    "decision": (*_NAMED, "count", "anomaly"),
    "limit": ("anomaly",),
    "count": ("count",),
    "count_low": ("count",),
    "count_high": ("count",),
    "boxes": ("detect", "count"),
    "defect_share": ("segment",),
    "state": (),
    "ts": (),
    "sequence": (),
    "part": (),
    "frame": (),
    "camera": (),
    "inspection": (),
    "device": (),
    "package": (),
    "dataset": (),
}
EXTENDED = (
    "score", "second", "second_score", "decision", "state", "ts", "sequence", "frame", "device",
    "package",
)  # fmt: skip
UNSURE = "unsure"
"""Said as a label where the answer is unsure, unless the plant file says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """A message for each answer, QoS 0 and not retained: it is worth what it says, and no more.

    Nothing waits for a bus that is away: what must not be lost goes by lineside's own topics.

    Attributes:
        inspection: whose answers.
        fields: name in the message → what it says, one of ``TOLD``.
        form: ``compatible``: these fields and nothing else; ``extended``: after them those of
            ``EXTENDED`` that the task has, each under its own name unless ``fields`` says it.
        unknown: said as ``label`` where the answer is unsure or nothing could be said of the
            picture; "": the likeliest label is said all the same, as systems before did, and no
            message of such a picture.
    """

    inspection: str
    fields: Mapping[str, str]
    form: Literal["compatible", "extended"] = "extended"
    unknown: str = UNSURE

    def __post_init__(self) -> None:
        strange = [told for told in self.fields.values() if told not in TOLD]
        refuse(
            self,
            unless(
                self.fields, key="fields", seen="", expected="at least one field",
                fix='Write fields = { image = "label", probability = "percent" }, say.',
            ),
            unless(
                not strange, key="fields", seen=", ".join(strange),
                expected="what an answer can say", fix=f"Known: {', '.join(TOLD)}.",
            ),
            unless(
                self.unknown in {"", UNSURE} or "label" in self.fields.values(), key="unknown",
                seen=self.unknown, expected="a field that says label",
                fix='Add one to fields, as in image = "label", or remove unknown.',
            ),
        )  # fmt: skip

    def all_fields(self, task: str) -> dict[str, str]:
        """Every field of a message in its order: name → what it says."""
        found = dict(self.fields)
        if self.form == "extended":
            said = set(found.values())
            more = (told for told in EXTENDED if told not in said and can_say(told, task=task))
            found.update({told: told for told in more if told not in found})
        return found


def can_say(told: str, *, task: str) -> bool:
    """Return whether an answer of that task has it."""
    return not TOLD[told] or task in TOLD[told]
