"""Which packages there are, which is in use, and who said so."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.core import ConflictError, InvalidError, NotFoundError, RefusedError
from lineside.models import Manifest, Package, Registry, build_package
from lineside.store import Blobs, Records, open_blobs, open_records
from lineside.testing import FakeClock

Parts = tuple[Manifest, dict[str, bytes]]


@pytest.fixture(params=["memory", "sqlite"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "memory":
        return "memory://", "memory://"
    return f"sqlite:///{tmp_path}/records.db", f"file://{tmp_path}/blobs"


@pytest.fixture
def stores(urls: tuple[str, str], clock: FakeClock) -> Iterator[tuple[Records, Blobs]]:
    blobs = open_blobs(urls[1])
    with open_records(urls[0], clock=clock) as records:
        yield records, blobs
    blobs.close()


@pytest.fixture
def registry(stores: tuple[Records, Blobs], clock: FakeClock) -> Registry:
    return Registry(*stores, clock=clock)


def another(parts: Parts, *, name: str, inspection: str = "stock") -> bytes:
    manifest, files = parts
    return build_package(replace(manifest, name=name, inspection=inspection), files)


def test_what_was_added_is_there_with_who_and_when(
    registry: Registry, archive: bytes, clock: FakeClock
) -> None:
    record = registry.add(archive, by="ada")
    assert record.digest == Package.read(archive).digest
    assert (record.name, record.inspection, record.added_by) == ("bright", "stock", "ada")
    assert record.added_at == clock.now()
    assert record.approved_at is None
    assert registry.get(record.digest) == record
    assert registry.content(record.digest) == archive


def test_adding_again_changes_nothing(registry: Registry, archive: bytes, clock: FakeClock) -> None:
    first = registry.add(archive, by="ada")
    clock.advance(60)
    assert registry.add(archive, by="bob") == first
    assert len(registry.list()) == 1


def test_an_archive_with_a_signature_more_replaces_the_bare_one(
    parts: Parts, registry: Registry, archive: bytes
) -> None:
    digest = registry.add(archive, by="ada").digest
    signed = build_package(*parts, signatures={"site.sig": b"s"})
    registry.add(signed, by="bob")
    assert registry.content(digest) == signed
    registry.add(archive, by="ada")
    assert registry.content(digest) == signed
    assert registry.get(digest).added_by == "ada"


def test_a_damaged_archive_is_not_kept(registry: Registry, archive: bytes) -> None:
    with pytest.raises(InvalidError):
        registry.add(archive[:-30], by="ada")
    assert registry.list() == []


def test_the_list_is_newest_first(parts: Parts, registry: Registry, clock: FakeClock) -> None:
    for name in ("one", "two", "three"):
        registry.add(another(parts, name=name), by="ada")
        clock.advance(1)
    assert [record.name for record in registry.list()] == ["three", "two", "one"]


def test_use_is_an_approval_with_person_time_and_reason(
    registry: Registry, archive: bytes, clock: FakeClock
) -> None:
    digest = registry.add(archive, by="ada").digest
    assert registry.in_use("stock") is None
    clock.advance(5)
    record = registry.use(digest, inspection="stock", by="bob", reason="24 of 24")
    assert (record.approved_by, record.reason) == ("bob", "24 of 24")
    assert record.approved_at == clock.now()
    assert registry.in_use("stock") == record


def test_the_newest_use_is_in_force_and_the_older_approvals_stay(
    parts: Parts, registry: Registry, clock: FakeClock
) -> None:
    old = registry.add(another(parts, name="old"), by="ada").digest
    new = registry.add(another(parts, name="new"), by="ada").digest
    for digest, reason in ((old, "first"), (new, "better"), (old, "new one was worse")):
        clock.advance(1)
        registry.use(digest, inspection="stock", by="bob", reason=reason)
    in_use = registry.in_use("stock")
    assert in_use is not None
    assert in_use.digest == old
    assert [approval.reason for approval in in_use.approvals] == ["first", "new one was worse"]


def test_a_package_for_no_inspection_fits_any(parts: Parts, registry: Registry) -> None:
    digest = registry.add(another(parts, name="loose", inspection=""), by="ada").digest
    registry.use(digest, inspection="stock", by="bob", reason="try")
    assert registry.in_use("stock") is not None


@pytest.mark.parametrize(("by", "reason"), [("", "good"), ("bob", " ")])
def test_an_approval_needs_a_person_and_a_reason(
    *, registry: Registry, archive: bytes, by: str, reason: str
) -> None:
    digest = registry.add(archive, by="ada").digest
    with pytest.raises(InvalidError, match="approval without"):
        registry.use(digest, inspection="stock", by=by, reason=reason)


def test_what_is_not_there_is_said(registry: Registry) -> None:
    nothing = "sha256:" + "0" * 64
    for ask in (registry.get, registry.content):
        with pytest.raises(NotFoundError):
            ask(nothing)
    with pytest.raises(NotFoundError):
        registry.use(nothing, inspection="stock", by="bob", reason="r")
    with pytest.raises(InvalidError):
        registry.get("bright")


def test_someone_elses_change_at_the_same_moment_is_a_conflict(
    registry: Registry, stores: tuple[Records, Blobs], archive: bytes
) -> None:
    digest = registry.add(archive, by="ada").digest
    documents = stores[0].documents
    before = documents.get("package", digest)
    registry.use(digest, inspection="stock", by="bob", reason="first")
    with pytest.raises(ConflictError):
        documents.put("package", digest, body=before.body, expect=before.version)


def test_the_archive_is_among_what_the_records_name(
    registry: Registry, stores: tuple[Records, Blobs], archive: bytes
) -> None:
    record = registry.add(archive, by="ada")
    assert stores[0].named([record.archive]) == {record.archive}


def test_everything_is_there_after_a_restart(
    archive: bytes, tmp_path: Path, clock: FakeClock
) -> None:
    records_url, blobs_url = f"sqlite:///{tmp_path}/records.db", f"file://{tmp_path}/blobs"
    blobs = open_blobs(blobs_url)
    with open_records(records_url, clock=clock) as records:
        registry = Registry(records, blobs, clock=clock)
        digest = registry.add(archive, by="ada").digest
        used = registry.use(digest, inspection="stock", by="bob", reason="24 of 24")
    blobs.close()
    blobs = open_blobs(blobs_url)
    with open_records(records_url, clock=clock) as records:
        registry = Registry(records, blobs, clock=clock)
        assert registry.in_use("stock") == used
        assert registry.content(digest) == archive
    blobs.close()


def test_an_archive_changed_on_disk_is_refused(
    archive: bytes, tmp_path: Path, clock: FakeClock
) -> None:
    blobs = open_blobs(f"file://{tmp_path}/blobs")
    with open_records("memory://", clock=clock) as records:
        registry = Registry(records, blobs, clock=clock)
        record = registry.add(archive, by="ada")
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file() and path.stat().st_size == len(archive):
                path.chmod(0o644)
                path.write_bytes(archive[:-1] + b"x")
        with pytest.raises(RefusedError):
            registry.content(record.digest)
    blobs.close()


def test_the_record_is_plain_json(
    registry: Registry, stores: tuple[Records, Blobs], archive: bytes
) -> None:
    digest = registry.add(archive, by="ada").digest
    body = stores[0].documents.get("package", digest).body
    assert json.loads(json.dumps(body)) == body
