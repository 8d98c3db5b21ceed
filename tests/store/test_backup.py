"""Backups: all of it comes back, on either database, or the archive is refused with a sentence."""

import io
import os
import random
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from lineside.core import (
    ConflictError,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    digest_of,
)
from lineside.store import (
    ArchiveLimits,
    Blobs,
    Records,
    RestoreReport,
    anchor,
    backup,
    check_anchors,
    open_blobs,
    open_records,
    restore,
)
from lineside.store.memory import MemoryBlobs
from lineside.testing import FakeClock
from lineside.testing.store import HUB, NOON, frame_row, log_entry

PLANT = "/site/plant"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where an archive goes."""

    records_url: str
    blobs_url: str
    clock: FakeClock

    def restore(
        self,
        archive: Path,
        *,
        extra: Mapping[str, Path] | None = None,
        limits: ArchiveLimits | None = None,
    ) -> RestoreReport:
        return restore(
            archive,
            records_url=self.records_url,
            blobs_url=self.blobs_url,
            clock=self.clock,
            extra=extra,
            limits=limits,
        )

    def open_blobs(self) -> closing[Blobs]:
        return closing(open_blobs(self.blobs_url))

    def open_records(self) -> Records:
        return open_records(self.records_url, clock=self.clock)


@dataclass
class Line:
    """Filled records and blobs, and a place for archives."""

    records: Records
    blobs: Blobs
    folder: Path
    clock: FakeClock

    def backup(self, name: str = "backup.tar", **extra: Path) -> Path:
        path = self.folder / name
        backup(self.records, self.blobs, to=path, extra=extra)
        return path

    def target(self, name: str) -> "Target":
        return Target(
            records_url=f"sqlite:///{self.folder}/{name}.db",
            blobs_url=f"file://{self.folder}/{name}",
            clock=self.clock,
        )

    def restore(self, archive: Path, *, limits: ArchiveLimits | None = None) -> None:
        self.target(f"restored-{archive.name}").restore(archive, limits=limits)

    def refused(self, archive: Path) -> str:
        """The sentence with which an archive is refused, having touched nothing."""
        with pytest.raises((InvalidError, RefusedError)) as caught:
            self.restore(archive)
        assert not (self.folder / f"restored-{archive.name}.db").exists()
        assert not (self.folder / f"restored-{archive.name}").exists()
        return str(caught.value)


def fill(records: Records, blobs: Blobs) -> None:
    """A pruned chain, a tombstone, pins, all kinds of text."""
    clock = records.clock
    assert isinstance(clock, FakeClock)
    records.log.append([log_entry(number, source=PLANT) for number in range(20)])
    anchor(records.log, clock=clock, source=HUB)
    clock.advance(60)
    records.log.append(
        [log_entry(number, source=PLANT, subject="i/cam") for number in range(20, 30)]
    )
    assert records.log.prune(PLANT, before=clock.now(), anchors=HUB) == 19
    records.documents.put("order", "größe 😀", body={"text": "a\u0000b", "n": [1, 2.5, None]})
    records.documents.put("order", "größe 😀", body={"text": "second"})
    for second in range(6):
        picture = f"picture {second}".encode()
        row = frame_row(second, picture=picture, pins=("order:1",) if second == 3 else ())
        records.frames.add([replace(row, thumbnail=blobs.put(b"small " + picture))])
        blobs.put(picture)
    records.frames.age_out(older_than=NOON + timedelta(seconds=2))
    blobs.delete(digest_of(b"picture 0"))
    blobs.put(b"a package that no frame names")


@pytest.fixture
def line(tmp_path: Path, clock: FakeClock) -> Iterator[Line]:
    with (
        closing(open_blobs(f"file://{tmp_path}/blobs", clock=clock)) as blobs,
        open_records(f"sqlite:///{tmp_path}/records.db", clock=clock) as records,
    ):
        fill(records, blobs)
        yield Line(records=records, blobs=blobs, folder=tmp_path, clock=clock)


def check_same(records: Records, blobs: Blobs, *, line: Line) -> None:
    assert list(records.export()) == list(line.records.export())
    assert set(blobs.digests()) == set(line.blobs.digests())
    for source in (HUB, PLANT):
        assert records.log.verify(source).ok
    assert check_anchors(records.log, source=HUB).ok
    more = records.log.append([log_entry(99, source=PLANT)])
    assert more[0].source_position == 31
    assert more[0].position > max(head.position for head in line.records.log.heads().values())


def test_all_of_it_comes_back(line: Line) -> None:
    (line.folder / "certificates").mkdir()
    (line.folder / "certificates" / "site.pem").write_bytes(b"secret")
    (line.folder / "token").write_bytes(b"token")
    (line.folder / "certificates" / "site.pem").chmod(0o644)
    (line.folder / "token").chmod(0o600)
    (line.folder / "plant").write_bytes(b"stays in the archive")
    archive = line.backup(
        certificates=line.folder / "certificates", token=line.folder / "token",
        plant=line.folder / "plant",
    )  # fmt: skip
    assert archive.stat().st_mode & 0o777 == 0o600
    target = line.target("second")
    into = {name: line.folder / "extra" / name for name in ("certificates", "token", "none")}
    report = target.restore(archive, extra=into)
    assert (report.entries, report.frames, report.documents) == (12, 6, 4)
    assert report.extra == ("certificates/site.pem", "plant", "token")
    assert (line.folder / "extra/certificates/site.pem").read_bytes() == b"secret"
    assert (line.folder / "extra/certificates/site.pem").stat().st_mode & 0o777 == 0o644
    assert (line.folder / "extra/certificates").stat().st_mode & 0o777 == 0o700
    assert (line.folder / "extra/token").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in (line.folder / "extra").iterdir()} == {"certificates", "token"}
    with target.open_records() as records, target.open_blobs() as blobs:
        check_same(records, blobs, line=line)


@pytest.mark.service
def test_a_backup_of_sqlite_fills_postgresql_and_back(line: Line, postgres_url: str) -> None:
    first = line.backup("first.tar")
    restore(
        first, clock=line.clock, records_url=postgres_url, blobs_url=f"file://{line.folder}/second"
    )
    with (
        closing(open_blobs(f"file://{line.folder}/second")) as second_blobs,
        open_records(postgres_url, clock=line.clock) as second,
    ):
        backup(second, second_blobs, to=line.folder / "second.tar", extra={})
        check_same(second, second_blobs, line=line)
    target = line.target("third")
    target.restore(line.folder / "second.tar")
    with target.open_records() as third, target.open_blobs() as blobs:
        check_same(third, blobs, line=line)


def test_an_empty_line_can_be_backed_up(tmp_path: Path, clock: FakeClock) -> None:
    with open_records("memory://", clock=clock) as records:
        backup(records, open_blobs("memory://"), to=tmp_path / "empty.tar", extra={})
    target = Target(records_url="memory://", blobs_url="memory://", clock=clock)
    report = target.restore(tmp_path / "empty.tar")
    assert (report.documents, report.entries, report.frames, report.blobs) == (0, 0, 0, 0)


def test_many_rows_are_split_into_parts(tmp_path: Path, clock: FakeClock) -> None:
    with open_records("memory://", clock=clock) as records:
        for number in range(40):
            records.documents.put("order", f"{number:03d}", body={"text": "x" * 500_000})
        backup(records, open_blobs("memory://"), to=tmp_path / "big.tar", extra={})
    with tarfile.open(tmp_path / "big.tar") as tar:
        assert tar.getnames() == [
            *(f"records/{n:06d}.jsonl.gz" for n in (1, 2, 3)),
            "manifest.json",
        ]
    target = Target(records_url="memory://", blobs_url="memory://", clock=clock)
    assert target.restore(tmp_path / "big.tar").documents == 40


def test_a_picture_that_cannot_be_read_is_listed_and_comes_back_as_a_tombstone(line: Line) -> None:
    lost, changed = frame_row(4, picture=b"picture 4"), frame_row(5, picture=b"picture 5")
    line.blobs.delete(lost.digest)
    (path,) = line.folder.glob(f"blobs/*/{changed.digest.removeprefix('sha256:')}")
    path.write_bytes(b"rotten")
    report = backup(line.records, line.blobs, to=line.folder / "b.tar", extra={})
    assert set(report.absent) == {lost.digest, changed.digest}
    target = line.target("second")
    restored = target.restore(line.folder / "b.tar")
    assert restored.absent == tuple(sorted([lost.digest, changed.digest]))
    with target.open_records() as records:
        assert records.frames.get(lost.id).aged_out_at == line.clock.now()
        assert records.frames.get(frame_row(3, picture=b"picture 3").id).aged_out_at is None


def test_what_is_filled_already_is_not_touched(line: Line) -> None:
    archive = line.backup()
    with pytest.raises(ConflictError, match="records are not empty"):
        line.target("records").restore(archive)
    with pytest.raises(ConflictError, match="blobs are not empty"):
        line.target("blobs").restore(archive)
    with pytest.raises(ConflictError, match="there already"):
        line.backup()


def test_an_extra_file_that_is_there_already_is_not_overwritten(line: Line) -> None:
    (line.folder / "token").write_bytes(b"old")
    archive = line.backup(token=line.folder / "token")
    (line.folder / "extra").mkdir()
    (line.folder / "extra/token").write_bytes(b"mine")
    for place in (line.folder / "extra/token", line.folder / "extra"):
        with pytest.raises(ConflictError, match="there already"):
            line.target("x").restore(archive, extra={"token": place})
    assert (line.folder / "extra/token").read_bytes() == b"mine"
    with line.target("x").open_records() as records:
        assert list(records.export()) == []


def test_other_files_are_read_while_they_are_held_and_after_the_records(line: Line) -> None:
    (line.folder / "trust").mkdir()
    said: list[str] = []

    @contextmanager
    def held() -> Iterator[None]:
        said.append("held")
        (line.folder / "trust" / "timestamp.json").write_bytes(b"2")
        yield
        said.append("let go")

    archive = line.folder / "held.tar"
    backup(line.records, line.blobs, to=archive, extra={"trust": line.folder / "trust"}, held=held)
    assert said == ["held", "let go"]
    line.target("second").restore(archive, extra={"trust": line.folder / "back"})
    assert (line.folder / "back" / "timestamp.json").read_bytes() == b"2"


def test_rights_that_let_others_write_or_run_as_somebody_else_do_not_come_back(line: Line) -> None:
    (line.folder / "token").write_bytes(b"token")
    (line.folder / "token").chmod(0o666)
    members = members_of(line.backup(token=line.folder / "token"))
    for header, _ in members:
        header.mode |= 0o7000
    path = write_members(line.folder / "rights.tar", members)
    line.target("second").restore(path, extra={"token": line.folder / "back"})
    assert (line.folder / "back").stat().st_mode & 0o7777 == 0o644


@pytest.mark.parametrize("name", ["../up", "/abs", "a//b", "a/./b", "c:x", "a\\b", "", "n\x00l"])
def test_extra_names_that_lead_elsewhere_are_refused(line: Line, name: str) -> None:
    (line.folder / "file").write_bytes(b"")
    with pytest.raises(InvalidError):
        backup(
            line.records, line.blobs, to=line.folder / "b.tar", extra={name: line.folder / "file"}
        )


def test_what_is_not_there_is_said(line: Line) -> None:
    with pytest.raises(NotFoundError):
        line.backup(token=line.folder / "none")
    with pytest.raises(NotFoundError):
        line.restore(line.folder / "none.tar")
    with pytest.raises(UnavailableError):
        backup(line.records, line.blobs, to=line.folder / "none" / "b.tar", extra={})


class GoesAway(MemoryBlobs):
    """Blobs that go away in the middle."""

    def digests(self) -> Iterator[Digest]:
        yield from list(super().digests())[:2]
        raise UnavailableError("the bucket is away")


def test_half_an_archive_never_appears(line: Line) -> None:
    blobs = GoesAway(clock=line.clock)
    for number in range(5):
        blobs.put(bytes([number]))
    before = set(line.folder.iterdir())
    with pytest.raises(UnavailableError):
        backup(line.records, blobs, to=line.folder / "b.tar", extra={})
    assert set(line.folder.iterdir()) == before


def test_an_archive_cut_short_anywhere_is_refused(line: Line) -> None:
    whole = line.backup().read_bytes()
    places = {0, 1, 511, 512, 513, len(whole) // 2}
    places |= {random.Random(7).randrange(len(whole) - 10240) for _ in range(20)}  # noqa: S311  seeded
    for place in sorted(places):
        cut = line.folder / f"cut-{place}.tar"
        cut.write_bytes(whole[:place])
        assert "fix:" in line.refused(cut)


def test_a_changed_byte_anywhere_is_refused_or_changes_nothing(line: Line) -> None:
    whole = line.backup().read_bytes()
    dice = random.Random(11)  # noqa: S311  seeded
    expected = list(line.records.export())
    for number in range(25):
        place = dice.randrange(len(whole))
        content = bytearray(whole)
        content[place] ^= 1 << dice.randrange(8)
        path = line.folder / f"changed-{number}.tar"
        path.write_bytes(content)
        target = line.target(f"changed-{number}")
        try:
            target.restore(path)
        except LinesideError as error:
            assert isinstance(error, InvalidError | RefusedError)  # noqa: PT017  either is right
            continue
        with target.open_records() as records:
            assert list(records.export()) == expected


def members_of(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(archive) as tar:
        files = [(header, tar.extractfile(header)) for header in tar]
        return [(header, file.read()) for header, file in files if file is not None]


def write_members(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for header, content in members:
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def test_a_member_taken_out_put_in_or_moved_is_refused(line: Line) -> None:
    members = members_of(line.backup())
    other = tarfile.TarInfo(f"blobs/{digest_of(b'x').removeprefix('sha256:')}")
    for name, changed in {
        "without a blob": [members[0], *members[2:]],
        "without records": members[1:],
        "without manifest": members[:-1],
        "with a blob more": [*members[:-1], (other, b"x"), members[-1]],
        "moved": [members[0], members[2], members[1], *members[3:]],
        "twice": [members[0], members[1], *members[1:]],
        "after the end": [*members, (other, b"x")],
        "two manifests": [*members, members[-1]],
    }.items():
        path = write_members(line.folder / f"{name}.tar", changed)
        assert line.refused(path), name


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../x", "blobs/../x", "extra/../../x", "extra//x", "blobs/AB", "records/1"],
)
def test_a_member_of_another_name_is_refused(line: Line, name: str) -> None:
    members = members_of(line.backup())
    path = write_members(line.folder / "named.tar", [(tarfile.TarInfo(name), b"x"), *members])
    assert line.refused(path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
)
def test_a_member_that_is_no_plain_file_is_refused(line: Line, kind: bytes) -> None:
    header = tarfile.TarInfo("extra/x")
    header.type = kind
    header.linkname = "/etc/passwd"
    members = members_of(line.backup())
    path = write_members(line.folder / "kind.tar", [*members[:1], (header, b""), *members[1:]])
    assert "no plain file" in line.refused(path)


def test_limits_hold_for_number_and_size(line: Line) -> None:
    archive = line.backup()
    for limits in (
        ArchiveLimits(members=3),
        ArchiveLimits(member_bytes=100),
        ArchiveLimits(total_bytes=1000),
    ):
        with pytest.raises(InvalidError):
            line.restore(archive, limits=limits)


def test_a_header_that_claims_an_absurd_size_is_refused(line: Line) -> None:
    header = tarfile.TarInfo("extra/x")
    header.type = tarfile.XHDTYPE
    header.size = 8 * 1024**3 - 1
    path = line.folder / "claims.tar"
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + os.urandom(2048))
    assert line.refused(path)


def test_rows_that_unpack_to_too_much_are_refused(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = line.backup()
    monkeypatch.setattr("lineside.store.archive._PART_MOST_BYTES", 1000)
    assert "too large" in line.refused(archive)
