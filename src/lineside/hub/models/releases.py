"""Signed releases: approved archives that devices may run.

1. An approved version of a model is published under its group and number; a package that is taken
   into use without being a version, as ``direct-<inspection>`` with the next number of its own.
2. Publishing comes before a use is recorded: what cannot be signed does not come into use.
3. Devices go back to an older version by a signed rollback only. It is signed with the decision: a
   person takes an older version into use again, orders a rollback, or a rollout goes back.
4. Only what is signed is handed out, by the digest of its bytes; a device checks all of it again.
5. An approved operating point is signed like a package, in a group of its inspection's own.
6. A version of the plant file is signed by its number and digest, before devices are told it. Its
   text is not among the signed files: it may have passwords of cameras.
7. A hub without a repository publishes nothing; one that runs makes it at its first start.

The repository's key also signs the log's checkpoints, which say where a pruned chain begins:

8. A checkpoint is signed in the transaction that forgets. Those of older versions have no
   signature: the first start signs them, once, and a file beside the keys says that this is done.
   From then on a checkpoint without signature is not believed.
"""

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lineside.core import (
    Clock,
    ConflictError,
    Digest,
    LinesideError,
    NotFoundError,
    RefusedError,
    encode,
    replace_durably,
    to_plain,
)
from lineside.core.errors import retry_stale
from lineside.core.files import write_durably
from lineside.core.plant_check import PLANT_GROUP
from lineside.fleet import (
    Release,
    Target,
    UpdateRepository,
    create_repository,
    newer,
    version_key,
)
from lineside.hub.downloads import Slots
from lineside.hub.models.model_service import release_of
from lineside.models import ModelVersions, PackageRecord, Registry
from lineside.models.operating_point import OperatingPoint
from lineside.models.versions import Verdict
from lineside.store import CHECKPOINT, Blobs, Documents, Records, checkpoint_bytes, every_document

logger = logging.getLogger(__name__)

RELEASE_KIND = "release"
DIRECT_KIND = "direct-release"
_LOG_SIGNED = "log-signed"
_CACHED = 2
_PAGE = 100
_UNDATED = datetime.fromtimestamp(0, UTC)


def check_checkpoints(documents: Documents, folder: Path, *, clock: Clock) -> None:
    """Check the signatures of the log's checkpoints by the repository in ``folder``.

    Raises:
        RefusedError: one is wrong, or missing where the repository has signed all of them.
    """
    repository = UpdateRepository(folder, clock=clock, read=lambda digest: digest.encode())
    are_signed = (folder / _LOG_SIGNED).exists()
    for checkpoint in every_document(documents, CHECKPOINT):
        signature = checkpoint.body.get("signature")
        if signature is None and not are_signed:
            continue
        try:
            if not isinstance(signature, dict):
                raise RefusedError("it has no signature")
            repository.check_signature(checkpoint_bytes(checkpoint.body), signature)
        except LinesideError as error:
            raise RefusedError(
                f"the checkpoint of {checkpoint.id} does not hold: {error.message}",
                where=CHECKPOINT,
                fix="Someone changed the database: restore a backup and keep this one as evidence.",
            ) from error


class Releases:
    """The update repository as the hub uses it; safe from several threads and processes."""

    def __init__(
        self, records: Records, blobs: Blobs, *, folder: Path, clock: Clock, downloads: int = 64
    ) -> None:
        """Use what others opened and will close; touch no file yet.

        Args:
            records: of the hub.
            blobs: of the hub.
            folder: of the repository.
            clock: what expiry counts from.
            downloads: archives that go out at a time.
        """
        self._documents = records.documents
        self._blobs = blobs
        self._registry = Registry(records, blobs, clock=clock)
        self._versions = ModelVersions(records, self._registry, clock=clock)
        self._folder = folder
        self._clock = clock
        self.slots = Slots(downloads, clock=clock)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._cached: OrderedDict[Digest, bytes] = OrderedDict()
        self.repository = UpdateRepository(folder, clock=clock, read=self._archive)

    def approvals(self) -> dict[Digest, Verdict]:
        """Package → the newest approval of a version that it is, of any group."""
        found: dict[Digest, Verdict] = {}
        for group in self._versions.groups():
            for version in self._versions.of(group):
                before = found.get(version.digest)
                if version.approved and (before is None or before.at <= version.verdicts[-1].at):
                    found[version.digest] = version.verdicts[-1]
        return found

    # ---- signing

    def ensure(self, *, keys: Path) -> bool:
        """Make the repository where there is none yet; its root keys are to be taken away.

        True if it was made now; of several hubs or people that ask at once by one.
        """
        made = not self.repository.exists()
        if made:
            try:
                create_repository(self._folder, keys=keys, clock=self._clock, read=self._archive)
            except ConflictError:  # somebody else was first
                made = False
        if not made:
            self.repository.renew()
        self._hand_out_root()
        self._sign_checkpoints()
        if made:
            logger.warning(
                "root keys of the update repository were made in %s: take this folder off the"
                " machine (docs/reference/trust.md); the hub does not need it to sign packages",
                keys,
            )
        return made

    def _hand_out_root(self) -> None:
        """``root.json``, where devices' ``trust_root`` may point or be copied from."""
        path, root = self._folder / "root.json", self.repository.first_root()
        if not path.exists() or path.read_bytes() != root:
            replace_durably(path, root)

    def _sign_checkpoints(self) -> None:
        done = self._folder / _LOG_SIGNED
        if done.exists():
            return
        for old in list(every_document(self._documents, CHECKPOINT)):
            if "signature" not in old.body:
                signature = self.repository.sign(checkpoint_bytes(old.body))
                body = {**old.body, "signature": signature}
                with suppress(ConflictError):  # another hub was first
                    self._documents.put(CHECKPOINT, old.id, body=body, expect=old.version)
        with suppress(FileExistsError):
            write_durably(done, b"The log's checkpoints are signed.\n")

    def publish(self, release: Release) -> Target | None:
        """Sign an approved version for its inspection; None where the hub has no repository.

        A version may be signed for several inspections, one after the other. A package whose
        archive got further signatures since stays published as it was.
        """
        if not self.repository.exists():
            return None
        kept = self.target_of(release.digest, group=release.group, version=release.version)
        if kept is not None and release.inspection in kept.inspections:
            return kept
        if kept is not None:
            release = replace(release, sha256=kept.sha256, size_bytes=kept.size_bytes)
        archive = Digest(f"sha256:{release.sha256}")
        target = self.repository.publish(release, self._archive(archive))
        # Named in a document, so that nothing forgets the bytes.
        body = {"release": to_plain(release), "archive": archive}
        self._documents.put(RELEASE_KIND, release.target, body=body)
        return target

    def publish_point(self, point: OperatingPoint) -> None:
        """Sign an operating point as a release of its inspection's own group."""
        if not self.repository.exists():
            return
        release = self.point_release(point)
        archive = self._blobs.put(encode(point))
        self.publish(replace(release, version=str(self._number(release.group, archive))))

    @staticmethod
    def point_release(point: OperatingPoint) -> Release:
        """An operating point as a release, numbered as the versions of its inspection are."""
        digest = point.digest
        return Release(
            group=_group("operating-point", point.inspection), version=str(point.version),
            inspection=point.inspection, digest=digest, sha256=digest.removeprefix("sha256:"),
            size_bytes=len(encode(point)),
        )  # fmt: skip

    def publish_plant(self, versions: Mapping[int, Digest]) -> None:
        """Sign versions of the plant file, by number; those that are signed already stay."""
        if not self.repository.exists():
            return
        for number, digest in sorted(versions.items()):
            if self.target_of(digest, group=PLANT_GROUP, version=str(number)) is None:
                data = encode(
                    {"schema": "lineside.plant-version/1", "number": number, "digest": digest}
                )
                release = Release(
                    group=PLANT_GROUP, version=str(number), inspection="", digest=digest,
                    sha256=self._blobs.put(data).removeprefix("sha256:"), size_bytes=len(data),
                )  # fmt: skip
                self.publish(release)

    def withdraw(self, release: Release) -> None:
        """Sign a version no more, whichever archive of it; one that is not signed is fine."""
        kept = self.target_of(release.digest, group=release.group, version=release.version)
        if kept is not None:
            self.repository.withdraw(kept.path)

    def used(self, digest: Digest, *, inspection: str, leaving: Collection[str]) -> None:
        """Sign what is taken into use, and the way back to it where it is one.

        Args:
            digest: of the package.
            inspection: which it will answer for.
            leaving: packages that some device runs, should run or once ran.

        Raises:
            RefusedError, UnavailableError: it cannot be signed, so it must not come into use.
        """
        if not self.repository.exists():
            return
        record = self._registry.get(digest)
        approved = [found for found in self._versions.holding(digest) if found.approved]
        released = [release_of(version, record, inspection=inspection) for version in approved]
        for release in released or [self._direct(record, inspection=inspection)]:
            self.publish(release)
        self.allow_rollback(digest, leaving=leaving)

    def allow_rollback(self, digest: str, *, leaving: Collection[str]) -> None:
        """Sign that devices may go back to a package from others that were published after it."""
        if not self.repository.exists():
            return
        for target in list(self.repository.targets().values()):
            if target.custom.get("digest") == digest:
                self._allow_from(target, leaving=[one for one in leaving if one != digest])

    def published(self) -> list[tuple[Target, datetime]]:
        """Everything that is signed, with the time of its publication."""
        if not self.repository.exists():
            return []
        at = {one.id: one.updated_at for one in every_document(self._documents, RELEASE_KIND)}
        return [
            (target, at.get(path, _UNDATED)) for path, target in self.repository.targets().items()
        ]

    def target_of(
        self, digest: str, *, group: str = "", version: str = "", inspection: str = ""
    ) -> Target | None:
        """Return the signed target of a package, the newest version where there are several.

        Without a digest it is found by group and version; with an inspection only where it is
        signed for that one.
        """
        if not self.repository.exists():
            return None
        found = [
            target
            for target in self.repository.targets().values()
            if (target.custom.get("digest") == digest or not digest)
            and target.custom.get("digest")
            and group in ("", target.custom.get("group"))
            and version in ("", target.custom.get("version"))
            and inspection in ("", *target.inspections)
        ]
        return max(found, key=lambda target: version_key(_version(target)), default=None)

    def renew(self) -> None:
        """Sign again what expires soon, as far as the hub may; by the timer."""
        if self.repository.exists():
            self.repository.renew()

    # ---- handing out

    def metadata(self, name: str) -> bytes:
        """``NotFoundError`` if there is none."""
        return self.repository.metadata(name)

    def archive(self, path: str) -> tuple[Target, bytes]:
        """A signed file by its path, with or without the digest in its name.

        Raises:
            NotFoundError: nothing of this path is signed.
        """
        if not self.repository.exists():
            raise NotFoundError("no update repository", where=path[:200], fix="Start the hub.")
        target = self.repository.served(path)
        digest = Digest(f"sha256:{target.sha256}")
        kept = self._recent(digest)
        if kept is not None:
            return target, kept
        with self._loading:  # many devices ask at once for what was just released: read it once
            data = self._recent(digest) or self._archive(digest)
            with self._lock:
                self._cached[digest] = data
                while len(self._cached) > _CACHED:
                    self._cached.popitem(last=False)
        return target, data

    def _recent(self, digest: Digest) -> bytes | None:
        with self._lock:
            kept = self._cached.get(digest)
            if kept is not None:
                self._cached.move_to_end(digest)
            return kept

    # ---- underneath

    def _archive(self, digest: Digest) -> bytes:
        return self._blobs.get(digest)

    def _allow_from(self, target: Target, *, leaving: Iterable[str]) -> None:
        signed = target.custom.get("rollback_from", ())
        known = set(signed if isinstance(signed, list) else ())
        group = str(target.custom["group"])
        versions = {one for digest in leaving for one in self.versions_of(digest, group=group)}
        for left in sorted(versions - known, key=version_key):
            if newer(left, than=_version(target)):
                self.repository.allow_rollback(target.path, from_version=left)
                logger.info("rollback signed path=%s from=%s", target.path, left)

    def versions_of(self, digest: str, *, group: str) -> list[str]:
        """Under which versions a package was ever published; withdrawn ones still run somewhere."""
        place, after, found = f"packages/{group}/", f"packages/{group}/", []
        while page := self._documents.page(RELEASE_KIND, after=after, limit=_PAGE):
            releases = [one.body["release"] for one in page if one.id.startswith(place)]
            found += [str(one["version"]) for one in releases if one["digest"] == digest]
            if len(releases) < len(page):
                break
            after = page[-1].id
        return found

    def _direct(self, record: PackageRecord, *, inspection: str) -> Release:
        group = _group("direct", inspection)
        return Release(
            group=group,
            version=str(self._number(group, record.digest)),
            inspection=inspection,
            digest=record.digest,
            sha256=record.archive.removeprefix("sha256:"),
            size_bytes=record.size_bytes,
            platforms=record.manifest.targets,
        )

    @retry_stale
    def _number(self, group: str, digest: Digest) -> int:
        """A package's place among those that were taken into use for an inspection."""
        try:
            document = self._documents.get(DIRECT_KIND, group)
            known, version = list(document.body["digests"]), document.version
        except NotFoundError:
            known, version = [], 0
        if digest in known:
            return known.index(digest) + 1
        body = {"digests": [*known, digest]}
        self._documents.put(DIRECT_KIND, group, body=body, expect=version)
        return len(known) + 1


def _group(kind: str, inspection: str) -> str:
    """The group of what is signed without being a version of a model."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", inspection).strip("-") or "inspection"
    return f"{kind}-{name}"[:63].rstrip("-")


def _version(target: Target) -> str:
    return str(target.custom["version"])
