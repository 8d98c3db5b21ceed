"""Messages of answers as the plant file declares them (``[route.say]``).

A message is of a topic and in words that a system before has read; see ``Say``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lineside.core.codec import refuse, unless

# What a field may say, and the tasks that have it; empty for all.
_WITH_LABELS = ("classify", "multilabel", "detect")
ANSWER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "label": _WITH_LABELS,
    "percent": _WITH_LABELS,
    "score": (*_WITH_LABELS, "anomaly"),
    "second": ("classify", "multilabel"),
    "second_score": ("classify", "multilabel"),
    "decision": (*_WITH_LABELS, "count", "anomaly"),
    "limit": ("anomaly",),
    "count": ("count",),
    "count_low": ("count",),
    "count_high": ("count",),
    "boxes": ("detect", "count"),
    "defect_share": ("segment",),
    "verdict": (),
    "reasons": (),
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

    The names are those of another system; keys stand in the order of the plant file, with a blank
    after colon and comma, so that a message can have the very bytes that a system before wrote.
    Nothing waits for a bus that is away: what must not be lost goes by lineside's own topics.

    Attributes:
        inspection: id of an inspection; whose answers.
        fields: table; name in the message → what it says, in this order: ``label``, ``percent``,
            ``score`` (0-1), ``second``, ``second_score`` (the runner-up), ``decision``, ``limit``,
            ``count``, ``count_low``, ``count_high``, ``boxes``, ``defect_share``, ``verdict``,
            ``reasons`` (a list; of this [inspection alone](#verdicts)), ``state``, ``ts`` (capture
            time), ``sequence``, ``part``, ``frame``, ``camera``, ``inspection``, ``device``,
            ``package``, ``dataset``; what the inspection's task has not is refused.
        form: ``"extended"`` or ``"compatible"``; ``compatible``: these fields and nothing else;
            ``extended``: after them ``score``, ``second``, ``second_score``, ``decision``,
            ``state``, ``ts``, ``sequence``, ``frame``, ``device``, ``package``, where not said yet.
        unknown: said as ``label`` where the answer is unsure or the image could not be judged; none
            of the labels. Empty, as systems before did: the most likely label is said however
            unsure it is, and nothing of an image that could not be judged.
    """

    inspection: str
    fields: Mapping[str, str]
    form: Literal["compatible", "extended"] = "extended"
    unknown: str = UNSURE

    def __post_init__(self) -> None:
        strange = [name for name in self.fields.values() if name not in ANSWER_FIELDS]
        refuse(
            self,
            unless(
                self.fields, key="fields", value="", expected="at least one field",
                fix='Write fields = { image = "label", probability = "percent" }, say.',
            ),
            unless(
                not strange, key="fields", value=", ".join(strange),
                expected="what an answer can say", fix=f"Known: {', '.join(ANSWER_FIELDS)}.",
            ),
            unless(
                self.unknown in {"", UNSURE} or "label" in self.fields.values(), key="unknown",
                value=self.unknown, expected="a field that says label",
                fix='Add one to fields, as in image = "label", or remove unknown.',
            ),
        )  # fmt: skip

    def all_fields(self, task: str) -> dict[str, str]:
        """Every field of a message in its order: name → what it says."""
        found = dict(self.fields)
        if self.form == "extended":
            said = set(found.values())
            more = (name for name in EXTENDED if name not in said and can_say(name, task=task))
            found.update({name: name for name in more if name not in found})
        return found


def can_say(name: str, *, task: str) -> bool:
    """Return whether an answer of that task has it."""
    return not ANSWER_FIELDS[name] or task in ANSWER_FIELDS[name]
