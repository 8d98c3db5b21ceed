"""An update repository in memory, with real signatures, that a test may turn against its devices.

The objects of ``roles`` are what will be signed next, ``signers`` who signs; ``publish`` signs all
of it and puts it among ``served``, which is what devices see: change it there, and it was changed
by somebody without keys.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from lineside.core import Digest, NotFoundError, UnavailableError, digest_of
from lineside.fleet import Part, Release
from lineside.fleet.trust.roles import prefixed
from lineside.testing.clock import FakeClock

_TOP = ("root", "targets", "snapshot", "timestamp")


class TrustSimulator:
    """A ``Source`` whose repository the test steers.

    Attributes:
        served: path → bytes, as devices get them.
        asked: every path with the byte it was asked from.
        sent_bytes: how many were handed out.
        away: whether nobody answers.
        ranges: whether it knows ranges.
        break_after: bytes after which a transfer ends as if it were whole; None: never.
        chunk_bytes: how much comes at once.
        chunk_s: how far the clock moves meanwhile.
    """

    def __init__(
        self,
        clock: FakeClock,
        *,
        groups: tuple[str, ...] = ("line-a", "line-b"),
        root_keys: int = 3,
        threshold: int = 2,
    ) -> None:
        self.clock = clock
        self.served: dict[str, bytes] = {}
        self.asked: list[tuple[str, int]] = []
        self.sent_bytes = 0
        self.away, self.ranges = False, True
        self.break_after: int | None = None
        self.chunk_bytes, self.chunk_s = 1000, 0.0
        self.signers = {name: [_key()] for name in (*_TOP, *groups, "default")}
        self.signers["root"] = [_key() for _ in range(root_keys)]
        self.root = Root(version=1, consistent_snapshot=True)
        for name in _TOP:
            for signer in self.signers[name]:
                self.root.add_key(signer.public_key, name)
        self.root.roles["root"].threshold = threshold
        self.targets = Targets(delegations=Delegations({}, {}))
        self.snapshot, self.timestamp = Snapshot(), Timestamp()
        self.roles: dict[str, Targets] = {}
        for name in (*groups, "default"):
            paths = ["packages/*/*/*"] if name == "default" else [f"packages/{name}/*/*"]
            self.delegate(name, paths=paths)
        self.live: dict[str, timedelta] = {}
        for signed in (self.targets, self.snapshot, self.timestamp, *self.roles.values()):
            signed.version = 0
        self.publish_root()
        self.publish()

    @property
    def first_root(self) -> bytes:
        """Return the root metadata that devices pin."""
        return self.served["metadata/1.root.json"]

    def delegate(self, name: str, *, paths: list[str], terminating: bool = True) -> None:
        """Let a role sign for paths, asked after those there are."""
        assert self.targets.delegations is not None
        assert self.targets.delegations.roles is not None
        self.signers.setdefault(name, [_key()])
        role = DelegatedRole(name, [], 1, terminating, paths)
        self.targets.delegations.roles[name] = role
        self.targets.add_key(self.signers[name][0].public_key, name)
        self.roles[name] = Targets()

    def add(self, data: bytes, *, group: str, version: str, role: str = "") -> str:
        """Put an archive among the targets of a role (the group's own, or default); its path."""
        release = release_of(data, group=group, version=version)
        entry = TargetFile.from_data(release.target, data, ["sha256"])
        entry.unrecognized_fields["custom"] = {
            "group": group, "version": version, "inspection": release.inspection,
            "digest": release.digest, "platforms": [], "rollback_from": [],
        }  # fmt: skip
        name = role or (group if group in self.roles else "default")
        self.roles[name].targets[release.target] = entry
        self.served[f"targets/{prefixed(release.target, release.sha256)}"] = data
        return release.target

    def publish(self) -> None:
        """Sign everything below the root again."""
        for name, signed in {"targets": self.targets, **self.roles}.items():
            signed.version += 1
            raw = self.sign(name, signed)
            self.served[f"metadata/{signed.version}.{name}.json"] = raw
            self.snapshot.meta[f"{name}.json"] = MetaFile.from_data(signed.version, raw, ["sha256"])
        self.publish_snapshot()

    def publish_snapshot(self) -> None:
        """Sign snapshot and timestamp as they are."""
        self.snapshot.version += 1
        raw = self.sign("snapshot", self.snapshot)
        self.served[f"metadata/{self.snapshot.version}.snapshot.json"] = raw
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, raw, ["sha256"])
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """Sign the timestamp as it is."""
        self.timestamp.version += 1
        self.served["metadata/timestamp.json"] = self.sign("timestamp", self.timestamp)

    def publish_root(self, *more: CryptoSigner) -> None:
        """Sign the root as it is; ``more`` are the keys before it."""
        self.signers["root"] += more
        raw = self.sign("root", self.root)
        self.served[f"metadata/{self.root.version}.root.json"] = raw

    def rotate(self, role: str) -> list[CryptoSigner]:
        """New keys for a top role, in a new root; the old ones, which sign nothing more here."""
        old = self.signers[role]
        self.signers[role] = [_key() for _ in old]
        for before, new in zip(old, self.signers[role], strict=True):
            self.root.add_key(new.public_key, role)
            self.root.revoke_key(before.public_key.keyid, role)
        self.root.version += 1
        self.publish_root(*(old if role == "root" else ()))
        self.signers["root"] = [one for one in self.signers["root"] if one not in old]
        return old

    def sign(self, role: str, signed: Root | Targets | Snapshot | Timestamp) -> bytes:
        """Bytes of what this role's signers sign, living ``live[role]`` from now, else 30 days."""
        lifetime = self.live.get(role, timedelta(days=30))
        signed.expires = (self.clock.now() + lifetime).replace(microsecond=0)
        made = Metadata(cast("Root", signed))
        for signer in self.signers[role]:
            made.sign(signer, append=True)
        return made.to_bytes()

    @contextmanager
    def open(
        self, path: str, *, start_byte: int = 0, end_byte: int | None = None
    ) -> Iterator[Part]:
        """Return the bytes served under a path."""
        self.asked.append((path, start_byte))
        if self.away:
            raise UnavailableError("nobody answers", where=path, fix="Wait.")
        if path not in self.served:
            raise NotFoundError("no such file", where=path, fix="Ask for another.")
        begin = start_byte if self.ranges else 0
        data = self.served[path][: end_byte if self.ranges else None]
        yield Part(start_byte=begin, chunks=self._chunks(data, begin))

    def _chunks(self, data: bytes, begin: int) -> Iterator[bytes]:
        end = len(data) if self.break_after is None else min(len(data), begin + self.break_after)
        for place in range(begin, end, self.chunk_bytes):
            self.clock.advance(self.chunk_s)
            self.sent_bytes += min(self.chunk_bytes, end - place)
            yield data[place : min(place + self.chunk_bytes, end)]


def release_of(
    archive: bytes,
    *,
    group: str = "tiles",
    version: str = "1",
    inspection: str = "stock",
    digest: str = "",
    platforms: tuple[str, ...] = (),
) -> Release:
    """A release of some bytes."""
    sha256 = digest_of(archive).removeprefix("sha256:")
    return Release(
        group=group, version=version, inspection=inspection,
        digest=Digest(digest or digest_of(b"package of " + archive)), sha256=sha256,
        size_bytes=len(archive), platforms=platforms,
    )  # fmt: skip


def _key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()
