"""Rollouts as they are kept: documents, the events of their decisions, and what devices told.

1. A rollout is one document; it is written against the version that was read, in the transaction
   of its event (``lineside.rollout.v1``), or nothing is.
2. Of each device the newest report is kept: figures are told in all each time, so one that comes
   late or twice changes nothing.
3. An event names the figures of the devices nearest to an alarm, at most twenty.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lineside.core import (
    InvalidError,
    Json,
    LinesideError,
    NotFoundError,
    UnavailableError,
    decode,
    decode_fast,
    encode,
    stable_id,
    to_plain,
)
from lineside.core.errors import retry_stale
from lineside.fleet import Evidence, Rollout, TrialReport
from lineside.fleet.evidence import Judgement
from lineside.hub.eventlog.ledger import Ledger
from lineside.hub.eventlog.topics import DeadLetterError, Reason, hub_source
from lineside.links import Message
from lineside.store import Documents, Logged, every_document
from lineside.streams import Event

logger = logging.getLogger(__name__)

ROLLOUT_TYPE = "lineside.rollout.v1"
KIND = "rollout"
OPEN_KIND = "rollout-open"
EVIDENCE_KIND = "rollout-evidence"
_MOST_TOLD = 20
_MOST_REPORT_BYTES = 16_384


class RolloutRepository:
    """Safe from several threads and processes."""

    def __init__(self, documents: Documents, *, ledger: Ledger, site: str) -> None:
        self._documents = documents
        self._ledger = ledger
        self._site = site
        self.refused = 0
        self._heard: set[str] = set()

    def all(self) -> tuple[Rollout, ...]:
        """Newest first."""
        found = (_rollout(one.body) for one in every_document(self._documents, KIND))
        return tuple(sorted(found, key=lambda one: (one.created_at, one.id), reverse=True))

    def open(self, *, inspection: str = "") -> list[str]:
        """Ids of those that are not settled, of one inspection or all."""
        return [
            one.id
            for one in every_document(self._documents, OPEN_KIND)
            if inspection in ("", one.body["inspection"])
        ]

    def one(self, rollout_id: str) -> Rollout:
        """``NotFoundError`` if there is none."""
        return self.read(rollout_id)[0]

    def read(self, rollout_id: str) -> tuple[Rollout, int]:
        """With the version of its document; ``NotFoundError`` if there is none."""
        try:
            document = self._documents.get(KIND, rollout_id)
        except NotFoundError as error:
            raise NotFoundError(
                f"no rollout {rollout_id[:80]!r}", where="rollouts",
                fix="List them: lineside rollout status.",
            ) from error  # fmt: skip
        return _rollout(document.body), document.version

    def keep(self, rollout: Rollout, *, expect: int, judged: Judgement | None = None) -> None:
        """Write it with the event of its last happening, if that is new to the log.

        Args:
            rollout: after the change.
            expect: the version that was read; 0: it must not exist.
            judged: the evidence that the change rests on.

        Raises:
            ConflictError: it is not at the version expected.
        """

        def write(_: list[Logged]) -> None:
            self._documents.put(KIND, rollout.id, body=to_plain(rollout), expect=expect)
            if rollout.settled:
                self._documents.delete(OPEN_KIND, rollout.id)
            else:
                body = {"inspection": rollout.release.inspection}
                self._documents.put(OPEN_KIND, rollout.id, body=body)

        self._ledger.record([self._event(rollout, judged)], within=write)

    # ---- what devices tell

    def prepare(self, messages: Sequence[Message]) -> list[tuple[Message, TrialReport]]:
        """Reports out of a batch; what is none is counted and left."""
        found = []
        for message in messages:
            try:
                found.append((message, _report(message)))
            except DeadLetterError as refusal:
                self.refused += 1
                logger.debug("report refused topic=%s: %s", message.topic, refusal)
        return found

    def commit(self, reports: Sequence[tuple[Message, TrialReport]]) -> None:
        """Keep the newest report of each device.

        Raises:
            UnavailableError: the store is away; nothing is lost by doing all of it again.
        """
        for message, report in reports:
            try:
                self.take(report)
            except UnavailableError:
                raise
            except LinesideError as error:
                self.refused += 1
                logger.debug("report not taken topic=%s: %s", message.topic, error)

    @retry_stale
    def take(self, report: TrialReport) -> None:
        """Keep a report; an older one that comes late changes nothing.

        Raises:
            NotFoundError: no such rollout.
            UnavailableError: the store is away, or others keep writing this device's report.
            InvalidError: of a device, package or inspection that it is not about.
        """
        rollout, found = self.one(report.rollout), report.evidence
        right = (
            found.device in rollout.requested
            and found.inspection == rollout.release.inspection
            and report.new == rollout.release.digest
        )
        if not right:
            raise InvalidError(
                f"{found.device} tells of something else than rollout {rollout.id}",
                where="evidence",
                fix="Tell of the rollout whose job this device was given.",
            )
        key = f"{rollout.id}/{found.device}"
        try:
            kept = self._documents.get(EVIDENCE_KIND, key)
            known, version = _stored_report(kept.body), kept.version
        except NotFoundError:
            known, version = None, 0
        if known is None or _later(found, known.evidence):
            self._documents.put(EVIDENCE_KIND, key, body=to_plain(report), expect=version)
            self._heard.add(rollout.id)

    def reported(self) -> set[str]:
        """Rollouts that devices reported of since the last call."""
        reported, self._heard = self._heard, set()
        return reported

    def reports(self, rollout_id: str) -> list[TrialReport]:
        """The newest report of each device of a rollout."""
        found = every_document(self._documents, EVIDENCE_KIND, prefix=f"{rollout_id}/")
        return [_stored_report(one.body) for one in found]

    # ---- inside

    def _event(self, rollout: Rollout, judged: Judgement | None) -> Event:
        happened, release = rollout.history[-1], rollout.release
        data: dict[str, Json] = {
            "rollout": rollout.id, "action": str(happened.state), "group": release.group,
            "version": release.version, "digest": release.digest,
            "inspection": release.inspection, "step": rollout.step + 1,
            "steps": len(rollout.plan.steps), "by": happened.by, "reason": happened.why,
            "previous": rollout.previous.digest if rollout.previous else "",
            "operating_point": rollout.point,
        }  # fmt: skip
        if judged is not None and judged.fortunes:
            reports = [one.evidence for one in self.reports(rollout.id)]
            data["figures"] = _figures(rollout, judged, evidence=reports)
        return Event(
            # The same happening again (a job was decided, an end was settled) is no new event.
            id=stable_id("evt", rollout.id, str(len(rollout.history))),
            source=hub_source(self._site),
            type=ROLLOUT_TYPE,
            subject=rollout.id,
            time=happened.at,
            data=data,
        )


def _figures(
    rollout: Rollout, found: Judgement, *, evidence: Sequence[Evidence]
) -> dict[str, Json]:
    """Return the figures of a decision; of many devices those nearest to an alarm."""

    def worst(each: Evidence) -> float:
        fortunes = found.fortunes.get(f"{each.device}/{each.inspection}", {})
        return max(fortunes.values(), default=0.0)

    nearest = sorted(evidence, key=worst, reverse=True)[:_MOST_TOLD]
    return {
        "verdict": str(found.verdict),
        "limits": to_plain(rollout.plan.limits),
        "devices": len(evidence),
        "frames": sum(each.frames for each in evidence),
        "needed": round(found.needed, 3),
        "evidence": [{**to_plain(each), "nearest": round(worst(each), 3)} for each in nearest],
    }


def _later(found: Evidence, known: Evidence) -> bool:
    return (found.frames, found.crashes) > (known.frames, known.crashes)


def _report(message: Message) -> TrialReport:
    device = message.topic.split("/")[3]
    if len(message.payload) > _MOST_REPORT_BYTES:
        raise DeadLetterError(Reason.TOO_LARGE, "a report is short", where=message.topic)
    try:
        report = decode(TrialReport, message.payload, where=message.topic)
    except InvalidError as error:
        raise DeadLetterError(Reason.FIELDS, str(error), where=message.topic) from error
    if report.evidence.device != device:
        raise DeadLetterError(Reason.FIELDS, "of another device", where=message.topic)
    return report


def _stored_report(body: Mapping[str, Any]) -> TrialReport:
    return decode_fast(TrialReport, encode(body), where=EVIDENCE_KIND)


def _rollout(body: Mapping[str, Any]) -> Rollout:
    return decode_fast(Rollout, encode(body), where=KIND)
