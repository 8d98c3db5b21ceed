"""Numbered versions of a model and what was decided about each.

1. A group holds versions 1, 2, 3, …; a package that is registered again keeps its number, and a
   number is never given twice.
2. A version waits (``PendingManualApproval``) until a person approves or rejects it, with a reason;
   every decision stays. Nothing else approves.
3. Nobody approves what is their own: who trained or registered a version may reject it only. A site
   with one person may lift this; the verdict then says that it was the maker's own.
4. Only a version whose making is ``Completed`` is decided about.
5. The newest approved version is the approved one of the highest number, however many there are.
6. All versions of a group are of one task, that of the newest one which was not rejected.

A comparison says how a version answers beside the one in use:

1. Both packages judge the pictures that the version was held out from, in its own dataset version;
   what the package in use was trained on is left out for both.
2. A change is ``better`` where a wrong answer became right, ``worse`` where a right one became
   wrong. Answers that changed and stayed wrong are counted (``otherwise``).
3. Where answers cannot be compared ``why_not`` says so in a sentence; the speed is measured all the
   same, on the golden pictures.

Settings of model groups: what follows an approval, for whom, and when it may begin.

1. Windows are times of the site's wall clock; a window that ends at or before its begin ends on the
   day after. Without any window, any time is right.
2. When the clock is set back, the hour that comes twice counts twice; when it is set forward, the
   hour that is left out counts never.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    InvalidError,
    NotFoundError,
    RefusedError,
    decode_fast,
    encode,
    to_plain,
)
from lineside.core.codec import refuse, unless
from lineside.core.errors import retry_stale
from lineside.models.manifest import Metric
from lineside.models.registry import Registry

if TYPE_CHECKING:
    from lineside.store import Document, Records

VERSION_KIND = "model-version"
_GROUP = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,62}")


class Status(StrEnum):
    """The verdict on a version: whether it may be released."""

    PENDING = "PendingManualApproval"
    APPROVED = "Approved"
    REJECTED = "Rejected"


class Creation(StrEnum):
    """The progress of making a version, in the words of SageMaker's registry."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    DELETING = "Deleting"


_NEXT: Mapping[Creation, frozenset[Creation]] = {
    Creation.PENDING: frozenset({Creation.IN_PROGRESS, Creation.FAILED, Creation.DELETING}),
    Creation.IN_PROGRESS: frozenset({Creation.COMPLETED, Creation.FAILED, Creation.DELETING}),
    Creation.COMPLETED: frozenset({Creation.DELETING}),
    Creation.FAILED: frozenset({Creation.DELETING}),
    Creation.DELETING: frozenset(),
}


class Approvers(StrEnum):
    """Who may approve: anybody but the makers of a version, or, at a site with one person, all."""

    OTHERS = "others"
    ANYBODY = "anybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One decision about a version.

    Attributes:
        own: an approval by who made the version, where the site allows it.
        inspection: which a package is approved for; "": the one that it was trained for.
    """

    status: Status
    by: str
    at: datetime
    reason: str
    own: bool = False
    inspection: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version as the registry knows it.

    Attributes:
        digest: of the package; "" while it is being made.
        trained_by: as the package's lineage says; "" where nobody said.
        creation: how far its making is; ``creation_reason`` why it failed or goes.
        metrics: what it was measured at when it was registered.
        evidence: where its evidence stands, by name: dataset, data digest, run.
        verdicts: all of them, oldest first.
    """

    group: str
    number: int
    digest: Digest
    registered_at: datetime
    registered_by: str
    trained_by: str = ""
    status: Status = Status.PENDING
    creation: Creation = Creation.COMPLETED
    creation_reason: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    evidence: Mapping[str, str] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()

    @property
    def name(self) -> str:
        """``group/number``."""
        return f"{self.group}/{self.number}"

    @property
    def approved(self) -> bool:
        """Return whether it may be released now."""
        return self.status is Status.APPROVED and self.creation is Creation.COMPLETED


def makers(version: ModelVersion) -> tuple[str, ...]:
    """Who trained and who registered it; each once."""
    named = (version.trained_by, version.registered_by)
    return tuple(dict.fromkeys(name for name in named if name))


def made_by(version: ModelVersion, name: str) -> bool:
    """Return whether this person is one of the makers, however the name is written."""
    return is_maker(makers(version), name)


def is_maker(makers: Iterable[str], name: str) -> bool:
    """Return whether a person is among these, however the name is written."""
    return _same(name) in {_same(maker) for maker in makers}


def verdict_on(
    where: str, *, makers: Iterable[str], status: Status, by: str, reason: str, at: datetime,
    approvers: Approvers,
) -> Verdict:  # fmt: skip
    """Return the decision of a person about what others, or they, have made.

    Raises:
        InvalidError: nobody or no reason is named, or it is put back to waiting.
        RefusedError: the makers approve their own.
    """
    if not (by.strip() and reason.strip()) or status is Status.PENDING:
        raise InvalidError(
            "a decision without person or reason",
            where=where,
            fix="Name who approves or rejects, and why.",
        )
    own = status is Status.APPROVED and is_maker(makers, by)
    if own and approvers is Approvers.OTHERS:
        raise RefusedError(
            f"{by} made {where}: you can't approve your own version",
            where=where,
            fix="Ask another person who may approve.",
        )
    return Verdict(status=status, by=by, at=at, reason=reason, own=own)


class ModelVersions:
    """Versions over a registry; safe from several threads and processes."""

    def __init__(self, records: "Records", registry: Registry, *, clock: Clock) -> None:
        """Use what others opened and will close."""
        self._documents = records.documents
        self._registry = registry
        self._clock = clock

    def register(
        self,
        package: bytes,
        *,
        group: str,
        by: str,
        metrics: Mapping[str, Metric],
        evidence: Mapping[str, str] | None = None,
    ) -> ModelVersion:
        """Add a package as the group's next version; it waits for a person.

        Raises:
            InvalidError, RefusedError: no package, one of another task, or no name of a group.
            ConflictError: others registered at the same moment, again and again.
        """
        check_group(group)
        record = self._registry.add(package, by=by)
        return self._next(
            ModelVersion(
                group=group,
                number=0,
                digest=record.digest,
                registered_at=self._clock.now(),
                registered_by=by,
                trained_by=record.manifest.lineage.trained_by,
                metrics=dict(metrics),
                evidence=dict(evidence or {}),
            )
        )

    def begin(
        self, group: str, *, by: str, evidence: Mapping[str, str] | None = None
    ) -> ModelVersion:
        """Take the group's next number for a version that is still to be made (``Pending``)."""
        check_group(group)
        return self._next(
            ModelVersion(
                group=group,
                number=0,
                digest=Digest(""),
                registered_at=self._clock.now(),
                registered_by=by,
                creation=Creation.PENDING,
                evidence=dict(evidence or {}),
            )
        )

    def move(self, group: str, number: int, *, to: Creation, reason: str = "") -> ModelVersion:
        """Say how far the making is, that it failed, or that the version goes.

        Raises:
            InvalidError: it is to be ``Completed``, which takes a package, or no reason is given
                where one is needed.
            ConflictError: that does not follow from where it stands.
        """
        needs_reason = to in (Creation.FAILED, Creation.DELETING)
        if to is Creation.COMPLETED or (needs_reason and not reason.strip()):
            raise InvalidError(
                f"{to} without {'a reason' if needs_reason else 'its package'}",
                where=f"{group}/{number}",
                fix="Say why." if needs_reason else "Hand in the package.",
            )
        document, current = self._current(group, number)
        _check_follows(current, to)
        return self._put(document, replace(current, creation=to, creation_reason=reason))

    def complete(
        self, group: str, number: int, *, package: bytes, metrics: Mapping[str, Metric]
    ) -> ModelVersion:
        """Hand in the package of a version in progress; it then waits for a person.

        Raises:
            InvalidError, RefusedError: no package, or one of another task.
            ConflictError: the version is not in progress.
        """
        document, current = self._current(group, number)
        _check_follows(current, Creation.COMPLETED)
        record = self._registry.add(package, by=current.registered_by)
        self.check_task(group, record.manifest.task)
        return self._put(
            document,
            replace(
                current,
                digest=record.digest,
                trained_by=record.manifest.lineage.trained_by,
                creation=Creation.COMPLETED,
                metrics=dict(metrics),
            ),
        )

    def check_task(self, group: str, task: str) -> None:
        """Refuse a task of packages that the group does not take, with ``InvalidError``: rule 6."""
        there = [one for one in self.of(group) if one.digest and one.status != Status.REJECTED]
        own = self._registry.get(there[-1].digest).manifest.task if there else task
        if own != task:
            raise InvalidError(
                f"the package is of task {task}, and {there[-1].name} is of task {own}",
                where=group, fix=f"Name another group, or a package of task {own}.",
            )  # fmt: skip

    def groups(self) -> tuple[str, ...]:
        """Every group that has a version, by name."""
        return tuple(sorted({_id_parts(document.id)[0] for document in self._all("")}))

    def of(self, group: str) -> tuple[ModelVersion, ...]:
        """Versions of a group by number; empty for an unknown one."""
        found = []
        for document in self._all(f"{group}/"):
            if not document.id.startswith(f"{group}/"):
                break
            found.append(_version(document))
        return tuple(found)

    def one(self, group: str, number: int) -> ModelVersion:
        """``NotFoundError`` if there is none."""
        return _version(self._document(group, number))

    def holding(self, digest: Digest) -> tuple[ModelVersion, ...]:
        """Every version of any group that is this package."""
        return tuple(
            found for found in map(_version, self._all("")) if digest and found.digest == digest
        )

    def newest_approved(self, group: str) -> ModelVersion:
        """The approved version of the highest number; ``NotFoundError`` if none is approved."""
        approved = [one for one in self.of(group) if one.approved]
        if not approved:
            raise NotFoundError(
                f"no version of {group!r} is approved",
                where=group,
                fix=f"Look at them and run: lineside model approve {group} NUMBER.",
            )
        return approved[-1]

    def decide(
        self,
        group: str,
        number: int,
        *,
        status: Status,
        by: str,
        reason: str,
        approvers: Approvers = Approvers.OTHERS,
        inspection: str = "",
    ) -> ModelVersion:
        """Approve or reject a version; ``inspection``: which it is approved for.

        Raises:
            NotFoundError: no such version.
            InvalidError: nobody or no reason is named, or it is put back to waiting.
            RefusedError: the makers approve their own.
            ConflictError: it is not completed, or someone else decided at the same moment.
        """
        document, current = self._current(group, number)
        if current.creation is not Creation.COMPLETED:
            raise ConflictError(
                f"the version is {current.creation}",
                where=current.name,
                fix="Decide when it is there.",
            )
        verdict = verdict_on(
            current.name, makers=makers(current), status=status, by=by, reason=reason,
            at=self._clock.now(), approvers=approvers,
        )  # fmt: skip
        verdict = replace(verdict, inspection=inspection)
        decided = replace(current, status=status, verdicts=(*current.verdicts, verdict))
        return self._put(document, decided)

    @retry_stale
    def _next(self, version: ModelVersion) -> ModelVersion:
        """Under the next number; a package that has one keeps it."""
        there = self.of(version.group)
        for current in there:
            if version.digest and current.digest == version.digest:
                return current
        if version.digest:
            self.check_task(version.group, self._registry.get(version.digest).manifest.task)
        made = replace(version, number=there[-1].number + 1 if there else 1)
        self._documents.put(
            VERSION_KIND, _id(made.group, made.number), body=to_plain(made), expect=0
        )
        return made

    def _put(self, document: "Document", changed: ModelVersion) -> ModelVersion:
        self._documents.put(
            VERSION_KIND, document.id, body=to_plain(changed), expect=document.version
        )
        return changed

    def _current(self, group: str, number: int) -> "tuple[Document, ModelVersion]":
        document = self._document(group, number)
        return document, _version(document)

    def _document(self, group: str, number: int) -> "Document":
        try:
            return self._documents.get(VERSION_KIND, _id(group, number))
        except NotFoundError:
            raise NotFoundError(
                f"no version {number} of {group!r}",
                where="registry",
                fix="List them with lineside model list.",
            ) from None

    def _all(self, after: str) -> "Iterator[Document]":
        from lineside.store import every_document

        return every_document(self._documents, VERSION_KIND, after=after)


def check_group(group: str) -> None:
    """Refuse what cannot be a group's name, with ``InvalidError``."""
    if not _GROUP.fullmatch(group):
        raise InvalidError(
            f"{group!r} names no group",
            where="group",
            fix="Write letters, digits and single hyphens, at most 63.",
        )


def _check_follows(current: ModelVersion, to: Creation) -> None:
    if to not in _NEXT[current.creation]:
        raise ConflictError(
            f"the version is {current.creation}, and {to} does not follow from that",
            where=current.name,
            fix="Begin another version.",
        )


def _same(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _id(group: str, number: int) -> str:
    return f"{group}/{number:08d}"


def _id_parts(doc_id: str) -> tuple[str, int]:
    group, _, number = doc_id.rpartition("/")
    return group, int(number)


def _version(document: "Document") -> ModelVersion:
    where = f"{document.kind} {document.id}"
    return decode_fast(ModelVersion, encode(document.body), where=where)


COMPARISON_SCHEMA = "lineside.comparison/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A picture that is answered otherwise than by the version in use.

    Attributes:
        picture: its name in the dataset, a frame's id, or its digest.
        truth: what a person said; "" where nobody did.
        digest: of the picture's bytes; "" where it is not known.
    """

    picture: str
    before: str
    after: str
    truth: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Whole predictions of one machine, one picture at a time.

    Attributes:
        median_ms, p95_ms: of the version.
        in_use_ms: median of the package in use, by turns on the same pictures; None for none.
        n: predictions that were timed; ``pictures`` which: ``test`` or ``golden``.
        machine: name of the machine that measured; ``processor`` what it has.
    """

    median_ms: float
    p95_ms: float
    n: int
    machine: str
    processor: str
    pictures: str
    in_use_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of the decision.

    Attributes:
        in_use: digest of the package compared with; "" where nothing was in use.
        at: when it was measured; None where it was not yet.
        why_not: why answers were not compared; "" where they were.
        dataset: whose pictures: ``rack/3``; "" for none.
        n: pictures that both answered; ``left_out`` those that the package in use was trained on.
        this, beside: figures of both on these pictures; ``beside`` is the key of stored evidence.
        better, worse: the first of each; ``better_count``, ``worse_count`` how many there are.
        otherwise: changed, and right before or after cannot be said or is not.
        speed: None where it could not be measured.
        remarks: further sentences that stand beside the figures.
    """

    in_use: str = ""
    in_use_name: str = ""
    at: datetime | None = None
    why_not: str = ""
    dataset: str = ""
    n: int = 0
    left_out: int = 0
    this: Mapping[str, Metric] = field(default_factory=dict)
    beside: Mapping[str, Metric] = field(default_factory=dict)
    better: tuple[Change, ...] = ()
    worse: tuple[Change, ...] = ()
    better_count: int = 0
    worse_count: int = 0
    otherwise: int = 0
    speed: Speed | None = None
    remarks: tuple[str, ...] = ()
    schema: str = COMPARISON_SCHEMA


GROUP_KIND = "model-group"
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_AHEAD_MINUTES = 8 * 24 * 60
_MOST_WINDOWS = 32


class Weekday(StrEnum):
    """Days as settings name them, Monday first."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


_WEEK = tuple(Weekday)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which a rollout may begin.

    Attributes:
        days: on which it begins; empty: every day.
        begins, ends: ``HH:MM`` of the site's clock; the end is outside.
    """

    days: tuple[Weekday, ...] = ()
    begins: str
    ends: str

    def __post_init__(self) -> None:
        refuse(
            self,
            *(
                unless(
                    _TIME.fullmatch(text), key=name, value=repr(text),
                    expected="a time of day, HH:MM", fix="Write 22:00.",
                )
                for name, text in (("begins", self.begins), ("ends", self.ends))
            ),
        )  # fmt: skip

    @property
    def words(self) -> str:
        """``sat sun 22:00 to 04:00``, ``every day 12:00 to 13:00``."""
        return f"{' '.join(self.days) or 'every day'} {self.begins} to {self.ends}"

    def holds(self, local: datetime) -> bool:
        """Return whether a time of the site's clock is inside."""
        minute = local.hour * 60 + local.minute
        begins, ends = _minutes(self.begins), _minutes(self.ends)
        today = self._begins_on(local)
        if begins < ends:
            return today and begins <= minute < ends
        return (today and minute >= begins) or (
            self._begins_on(local - timedelta(days=1)) and minute < ends
        )

    def _begins_on(self, local: datetime) -> bool:
        return not self.days or _WEEK[local.weekday()] in self.days


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """The settings of a model group: what follows an approval.

    Attributes:
        deploy_on_approval: whether a rollout begins by itself.
        windows: when one may begin, such as ``{"days": ["sat"], "begins": "22:00", "ends":
            "04:00"}``; empty: at any time.
        device_group: which devices it is for; "" none yet.
    """

    deploy_on_approval: bool = False
    windows: tuple[Window, ...] = ()
    device_group: str = ""

    def __post_init__(self) -> None:
        if len(self.windows) > _MOST_WINDOWS:
            raise InvalidError(
                f"{len(self.windows)} windows", where="windows", fix=f"At most {_MOST_WINDOWS}."
            )
        if self.deploy_on_approval and not self.device_group:
            raise InvalidError(
                "a rollout for nobody",
                where="device_group",
                fix="Name the group of devices that an approved version goes to.",
            )


def may_start(now: datetime, windows: Sequence[Window], *, zone: tzinfo) -> bool:
    """Return whether a rollout may begin now."""
    local = now.astimezone(zone)
    return not windows or any(window.holds(local) for window in windows)


def next_start(now: datetime, windows: Sequence[Window], *, zone: tzinfo) -> datetime | None:
    """The first moment from now on at which a rollout may begin, to the minute.

    None where no window comes within a week, which a change of clocks can bring about.
    """
    if may_start(now, windows, zone=zone):
        return now
    # Minute by minute: a change of clocks needs no rule of its own, and it takes milliseconds.
    minute = now.replace(second=0, microsecond=0)
    ahead = (minute + timedelta(minutes=step) for step in range(1, _AHEAD_MINUTES))
    return next((at for at in ahead if may_start(at, windows, zone=zone)), None)


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


class ModelGroups:
    """Settings over records; safe from several threads and processes."""

    def __init__(self, records: "Records") -> None:
        self._documents = records.documents

    def settings(self, group: str) -> GroupSettings:
        """Return the settings of a group, by default without anything automatic."""
        try:
            document = self._documents.get(GROUP_KIND, group)
        except NotFoundError:
            return GroupSettings()
        return decode_fast(GroupSettings, encode(document.body), where=f"{GROUP_KIND} {group}")

    def put(self, group: str, settings: GroupSettings) -> None:
        """Set them all."""
        self._documents.put(GROUP_KIND, group, body=to_plain(settings))
