"""Numbered versions of models as the hub uses them: register, approve, reject, settings.

1. Every decision is an event of the hub's chain, in the transaction that makes it.
2. Who made a version does not approve it, unless ``single_person`` is set; then page and event say
   that it was the maker's own.
3. What follows an approval is told to listeners by a follower of the log: in order, also of
   approvals made by command while the hub was away, and perhaps twice after a crash.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    Json,
    NotFoundError,
    Plant,
    RefusedError,
    decode_fast,
    decode_json,
    encode,
    parse_digest,
    to_plain,
)
from lineside.fleet import Release
from lineside.hub.config import HubConfig
from lineside.hub.eventlog.ledger import Journal, RecordsJournal, person_event
from lineside.hub.models.evidence import Changes, Evidence, collect_evidence
from lineside.hub.replay.repository import ReplayView, replays_of
from lineside.models import (
    Change,
    Comparison,
    ModelVersion,
    ModelVersions,
    Package,
    PackageRecord,
    Registry,
    Status,
)
from lineside.models.manifest import check_fits, fitting
from lineside.models.predictor import check_camera
from lineside.models.versions import (
    Approvers,
    Creation,
    GroupSettings,
    ModelGroups,
    made_by,
    may_start,
    next_start,
)
from lineside.store import Blobs, Logged, Records, open_blobs, open_records
from lineside.streams import Event
from lineside.vision.verdict import RejectRule

logger = logging.getLogger(__name__)

MODEL_TYPE = "lineside.model.v1"
CHANGES_KIND = "model-changes"
COMPARISON_KIND = "model-comparison"
_NEWEST, _LOOKED_THROUGH = 5, 200
REGISTERED, COMPARISON_REQUESTED = "registered", "comparison asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Body of a registration: a package that the registry holds becomes a version.

    Attributes:
        evidence: where evidence stands, by name.
        better, worse: pictures answered otherwise than by the version in use, right or wrong since;
            where somebody compared them.
    """

    package: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    better: tuple[Change, ...] = ()
    worse: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """A group in figures.

    Attributes:
        newest, approved: highest numbers, of all and of those approved (None: there is none).
        open_now: whether a rollout may begin now; ``opens_at`` when it next may.
    """

    name: str
    versions: int
    waiting: int
    newest: int
    approved: int | None
    settings: GroupSettings
    open_now: bool
    opens_at: datetime | None


class ModelService:
    """Groups and versions; safe from several threads and processes."""

    def __init__(
        self, records: Records, blobs: Blobs, *, journal: Journal, plant: Plant,
        config: HubConfig, clock: Clock,
    ) -> None:  # fmt: skip
        self._documents = records.documents
        self._records = records
        self._blobs = blobs
        self._registry = Registry(records, blobs, clock=clock)
        self._versions = ModelVersions(records, self._registry, clock=clock)
        self.check_task = self._versions.check_task
        self._groups = ModelGroups(records)
        self._journal = journal
        self._plant = plant
        self._clock = clock
        self._approvers = Approvers.ANYBODY if config.single_person else Approvers.OTHERS
        self._zone = ZoneInfo(config.time_zone)
        self._approved: list[Callable[[ModelVersion, str], object]] = []
        self._rejected: list[Callable[[Release], object]] = []

    # ---- looking

    def all(self) -> tuple[GroupView, ...]:
        """Every group, by name."""
        return tuple(self.group(name) for name in self._versions.groups())

    def group(self, name: str) -> GroupView:
        """``NotFoundError`` if it has no version."""
        versions = self.versions(name)
        settings = self._groups.settings(name)
        now = self._clock.now()
        return GroupView(
            name=name,
            versions=len(versions),
            waiting=sum(one.status is Status.PENDING for one in versions),
            newest=versions[-1].number,
            approved=max((one.number for one in versions if one.approved), default=None),
            settings=settings,
            open_now=may_start(now, settings.windows, zone=self._zone),
            opens_at=next_start(now, settings.windows, zone=self._zone),
        )

    def settings(self, group: str) -> GroupSettings:
        """Return what follows an approval in a group."""
        return self._groups.settings(group)

    def versions(self, group: str) -> tuple[ModelVersion, ...]:
        """Of a group by number; ``NotFoundError`` where there is none."""
        found = self._versions.of(group)
        if not found:
            raise NotFoundError(
                f"no group {group!r}", where="registry", fix="List them: lineside model list."
            )
        return found

    def one(self, group: str, number: int) -> ModelVersion:
        """``NotFoundError`` if there is none."""
        return self._versions.one(group, number)

    def holding(self, digest: str) -> tuple[ModelVersion, ...]:
        """Every version of any group that is this package."""
        return self._versions.holding(parse_digest(digest, where="digest"))

    def latest_approved(self, group: str) -> ModelVersion:
        """The approved version of the highest number; ``NotFoundError`` if none is approved."""
        return self._versions.newest_approved(group)

    def release(self, version: ModelVersion, *, inspection: str = "") -> Release:
        """Return the release of an approved version, which is signed and rolled out.

        Args:
            version: of a group.
            inspection: which it is for; "": that of its approval.

        Raises:
            NotFoundError: the plant has no such inspection.
            RefusedError: it is not approved, or cannot answer for the inspection.
        """
        if not version.approved:
            raise RefusedError(
                f"{version.name} is not approved", where=version.name, fix="Approve it first."
            )
        if inspection:
            self.check_fits(version.digest, inspection)
        return release_of(version, self._registry.get(version.digest), inspection=inspection)

    def inspections(self, version: ModelVersion) -> tuple[str, ...]:
        """Inspections of the plant that a version can answer for; its own is the first."""
        if not version.digest:
            return ()
        record = self._registry.get(version.digest)
        found = fitting(record.manifest, self._plant)
        own = release_of(version, record).inspection
        return tuple(sorted(found, key=lambda name: name != own))

    def check_fits(self, digest: Digest, inspection: str) -> None:
        """Refuse an inspection that a package cannot answer for.

        Where it is registered to a reference view, another camera than its own must show that view.
        Once somebody approved it for the inspection or took it into use there, this is not asked
        again: the way back must not wait for a lit scene.

        Raises:
            NotFoundError: the plant has no such inspection.
            RefusedError: why it cannot.
        """
        asked, record = self._plant.find_inspection(inspection), self._registry.get(digest)
        check_fits(record.manifest, asked)
        view = record.manifest.prepare.view
        cameras = {one.id: one.camera for one in self._plant.inspection} | {"": asked.camera}
        known = {one.inspection for one in record.approvals} | {
            verdict.inspection
            for version in self._versions.holding(digest)
            for verdict in version.verdicts
            if verdict.status is Status.APPROVED
        }
        own = cameras.get(record.inspection) == asked.camera
        if view is not None and view.register and not own and inspection not in known:
            package = Package.read(self._registry.content(digest))
            check_camera(package, self._newest_pictures(asked.camera), camera=asked.camera)

    def _newest_pictures(self, camera: str) -> Iterator[bytes]:
        rows = self._records.frames.page(camera=camera, limit=_LOOKED_THROUGH)
        for row in [one for one in rows if one.aged_out_at is None][:_NEWEST]:
            with suppress(NotFoundError):  # it aged out just now
                yield self._blobs.get(row.digest)

    def evidence(
        self, group: str, number: int, *, rule_of: Callable[[str], RejectRule | None] | None = None
    ) -> Evidence:
        """Everything that is known of a version, beside the one in use.

        ``rule_of``: gives the answers of an inspection that reject a part.
        """
        version = self.one(group, number)
        package = self._package(version)
        named = package.manifest.inspection if package else ""
        return collect_evidence(
            version,
            package=package,
            baseline=self._baseline(version, named),
            comparison=self.comparison(version),
            changes=self._changes(version),
            replays=self.replays(version),
            rule=rule_of(named) if rule_of else None,
        )

    def replays(self, version: ModelVersion) -> tuple[ReplayView, ...]:
        """Recorded spans that were answered by a version's package, newest first."""
        return replays_of(self._documents, version.digest) if version.digest else ()

    def baseline(self, version: ModelVersion) -> PackageRecord | None:
        """Return the baseline: the package in use, else the newest approved version."""
        return self._baseline(version, self._registry.get(version.digest).inspection)

    def content(self, digest: str) -> bytes:
        """A package's archive."""
        return self._registry.content(digest)

    def comparison(self, version: ModelVersion) -> Comparison | None:
        """As it was made; None while it was not."""
        try:
            document = self._documents.get(COMPARISON_KIND, version.name)
        except NotFoundError:
            return None
        where = f"{COMPARISON_KIND} {version.name}"
        return decode_fast(Comparison, encode(document.body), where=where)

    def store_comparison(self, version: ModelVersion, found: Comparison) -> None:
        """The newest is the one that is shown."""
        self._documents.put(COMPARISON_KIND, version.name, body=to_plain(found))

    def request_comparison(self, group: str, number: int, *, by: str) -> ModelVersion:
        """Let the hub compare a version with what is in use now, in the background.

        Raises:
            ConflictError: the version is not completed.
        """
        version = self.one(group, number)
        if version.creation is not Creation.COMPLETED:
            raise ConflictError(
                f"the version is {version.creation}", where=version.name, fix="Wait for it."
            )
        data: dict[str, Json] = {"action": COMPARISON_REQUESTED, "version": number, "by": by}
        self._journal.record([self._event(group, data)])
        return version

    def why_not(self, version: ModelVersion, *, by: str) -> str:
        """Why this person may not approve a version, in words; "" where nothing speaks against."""
        if self._approvers is Approvers.OTHERS and made_by(version, by):
            return "You can't approve your own version."
        return ""

    @property
    def single_person(self) -> bool:
        """Return whether makers may approve their own versions."""
        return self._approvers is Approvers.ANYBODY

    def check_use(self, digest: Digest) -> None:
        """Refuse a package that is a version which nobody approved.

        Raises:
            RefusedError: it waits, or was rejected.
        """
        found = self._versions.holding(digest)
        if found and not any(one.approved for one in found):
            raise RefusedError(
                f"the package is {found[-1].name}, which is {found[-1].status}",
                where=found[-1].name,
                fix="Another person approves it first, on the version's page.",
            )

    # ---- deciding

    def register(self, group: str, registration: Registration, *, by: str) -> ModelVersion:
        """A package of the registry as the group's next version; it waits for a person."""
        digest = parse_digest(registration.package, where="package")
        record = self._registry.get(digest)
        archive = self._registry.content(digest)
        made: list[ModelVersion] = []

        def keep(_: list[Logged]) -> None:
            version = self._versions.register(
                archive, group=group, by=by, metrics=record.manifest.metrics,
                evidence=registration.evidence,
            )  # fmt: skip
            made.append(version)
            if registration.better or registration.worse:
                changes = Changes(better=registration.better, worse=registration.worse)
                self._documents.put(CHANGES_KIND, version.name, body=to_plain(changes))

        known = any(one.digest == digest for one in self._versions.of(group))
        data: dict[str, Json] = {"action": REGISTERED, "digest": digest, "by": by}
        self._journal.record([] if known else [self._event(group, data)], within=keep)
        return made[0]

    def announce(self, version: ModelVersion) -> None:
        """Say that a version was registered by a program that writes no events, a pipeline."""
        data: dict[str, Json] = {
            "action": REGISTERED, "digest": version.digest, "by": version.registered_by,
        }  # fmt: skip
        self._journal.record([self._event(version.group, data)])

    def approve(
        self, group: str, number: int, *, by: str, reason: str, inspection: str = ""
    ) -> ModelVersion:
        """Approve a version for release.

        Args:
            group: of models.
            number: of the version.
            by: who approves.
            reason: why.
            inspection: which it is released for; "": the one that it was trained for.

        Raises:
            RefusedError: its makers approve it, or it cannot answer for the inspection.
            InvalidError, NotFoundError, ConflictError: as ``ModelVersions.decide``.
        """
        version = self.one(group, number)
        if inspection and version.creation is Creation.COMPLETED:
            self.check_fits(version.digest, inspection)
        return self._decide(version, Status.APPROVED, by=by, reason=reason, inspection=inspection)

    def reject(self, group: str, number: int, *, by: str, reason: str) -> ModelVersion:
        """Reject a version, one that was approved before as well."""
        return self._decide(self.one(group, number), Status.REJECTED, by=by, reason=reason)

    def set_settings(self, group: str, settings: GroupSettings, *, by: str) -> GroupView:
        """Say what follows an approval; ``NotFoundError`` if the group has no version."""
        self.versions(group)
        data: dict[str, Json] = {"action": "settings", "by": by, **to_plain(settings)}
        self._journal.record(
            [self._event(group, data)], within=lambda _: self._groups.put(group, settings)
        )
        return self.group(group)

    def _decide(
        self, version: ModelVersion, status: Status, *, by: str, reason: str, inspection: str = ""
    ) -> ModelVersion:
        own = status is Status.APPROVED and made_by(version, by)
        data: dict[str, Json] = {
            "action": status.lower(), "version": version.number, "digest": version.digest,
            "by": by, "reason": reason, "own": own,
        }  # fmt: skip
        if inspection:
            data["inspection"] = inspection
        seen = self.replays(version) if status is Status.APPROVED else ()
        if seen:
            data["replays"] = [{"replay": one.id, "digest": one.digest} for one in seen]
        decided: list[ModelVersion] = []

        def keep(_: list[Logged]) -> None:
            decided.append(
                self._versions.decide(
                    version.group, version.number, status=status, by=by, reason=reason,
                    approvers=self._approvers, inspection=inspection,
                )
            )  # fmt: skip

        self._journal.record([self._event(version.group, data)], within=keep)
        logger.debug("version decided version=%s status=%s by=%s", version.name, status, by)
        return decided[0]

    def _event(self, group: str, data: Mapping[str, Json]) -> Event:
        return person_event(
            MODEL_TYPE, subject=group, site=self._plant.site, clock=self._clock,
            data={"group": group, **data},
        )  # fmt: skip

    # ---- what follows

    def on_approved(self, listener: Callable[[ModelVersion, str], object]) -> None:
        """Call ``listener(version, by)`` at every approval, perhaps twice, by the follower."""
        self._approved.append(listener)

    def on_rejected(self, listener: Callable[[Release], object]) -> None:
        """Call ``listener`` at every rejection, whether or not the version was approved before."""
        self._rejected.append(listener)

    def follow(self, page: Sequence[Logged]) -> None:
        """Tell the listeners of the decisions in a page of the log that still hold."""
        for logged in page:
            data = decode_json(logged.entry.body, where=logged.entry.id)["data"]
            if data.get("action") not in ("approved", "rejected"):
                continue
            version = self.one(str(data["group"]), int(data["version"]))
            if version.approved and data["action"] == "approved":
                for approved in self._approved:
                    approved(version, str(data["by"]))
            elif version.status is Status.REJECTED and data["action"] == "rejected":
                release = release_of(version, self._registry.get(version.digest))
                for rejected in self._rejected:
                    rejected(release)

    # ---- evidence

    def _package(self, version: ModelVersion) -> Package | None:
        if not version.digest:
            return None
        return Package.read(self._registry.content(version.digest), where=version.name)

    def _baseline(self, version: ModelVersion, inspection: str) -> PackageRecord | None:
        """Return the inspection's package in use, else the newest approved other version."""
        used = self._registry.in_use(inspection) if inspection else None
        if used is not None and used.digest != version.digest:
            return used
        others = [one for one in self._versions.of(version.group) if one.approved]
        others = [one for one in others if one.digest != version.digest]
        return self._registry.get(others[-1].digest) if others else None

    def _changes(self, version: ModelVersion) -> Changes | None:
        try:
            document = self._documents.get(CHANGES_KIND, version.name)
        except NotFoundError:
            return None
        return decode_fast(Changes, encode(document.body), where=f"{CHANGES_KIND} {version.name}")


def release_of(version: ModelVersion, record: PackageRecord, *, inspection: str = "") -> Release:
    """A version with the bytes that hold it, for an inspection.

    Without one it is for that of its approval, else for the one that it was trained for.
    """
    approved = version.verdicts[-1].inspection if version.verdicts else ""
    return Release(
        group=version.group,
        version=str(version.number),
        inspection=inspection or approved or record.inspection,
        digest=record.digest,
        sha256=record.archive.removeprefix("sha256:"),
        size_bytes=record.size_bytes,
        platforms=record.manifest.targets,
    )


@contextmanager
def open_models(config: HubConfig, *, plant: Plant, clock: Clock) -> Iterator[ModelService]:
    """Groups and versions for a command beside the hub, whether or not it runs."""
    with (
        open_records(config.records_url, clock=clock) as records,
        closing(open_blobs(config.blobs_url)) as blobs,
    ):
        yield ModelService(
            records, blobs, journal=RecordsJournal(records), plant=plant, config=config,
            clock=clock,
        )  # fmt: skip
