"""A window that Spark counted as the event that the embedded engine makes of it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lineside.core import Plant, Rule, Scalar, decode_json
from lineside.streams.codec import encode_event
from lineside.streams.contract import MOST_CAUSES, Output
from lineside.streams.engine import rule_digest
from lineside.streams.outputs import rule_event

_WHOLE = re.compile(r"-?\d+")
_AS_JSON = frozenset(("min", "max", "first", "last"))


class WindowEvents:
    """Rows of ``windows_sql`` as events."""

    def __init__(self, rule: Rule, *, plant: Plant) -> None:
        self._rule, self._digest = rule, rule_digest(rule)
        self._source = f"/{plant.site}/hub"

    def event(self, row: Mapping[str, Any]) -> str:
        """JSON of the event of one window; what was told of a late record as it stands."""
        if row.get("event"):
            return str(row["event"])
        output = Output(
            name=str(row["_start_us"]),
            key=dict(zip(self._rule.key, _json(row["_shown"]), strict=True)), action="final",
            start_us=row["_start_us"], end_us=row["_end_us"], values=self._values(row),
            causes=_causes(row["_ids"], last=row["_last_id"]),
        )  # fmt: skip
        event = rule_event(self._rule, output, digest=self._digest, source=self._source)
        return encode_event(event).decode()

    def _values(self, row: Mapping[str, Any]) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {"count": row["_count"]}
        for one in self._rule.aggregate:
            told = row[one.name]
            if told is None:
                continue
            values[one.name] = (
                _json(told) if one.of in _AS_JSON else _sum(told) if one.of == "sum" else told
            )
        if row["_frame"]:
            values["frame"] = row["_frame"]
        return values


def _json(text: str) -> Any:  # noqa: ANN401  what JSON holds
    return decode_json(text.encode(), where="a window")


def _sum(text: str) -> Scalar:
    """A sum as Spark writes it: whole where all its figures were."""
    return int(text) if _WHOLE.fullmatch(text) else float(text)


def _causes(ids: Sequence[str], *, last: str) -> tuple[str, ...]:
    """The first records and the last one."""
    return tuple(ids) if last in ids else (*ids[: MOST_CAUSES - 1], last)
