"""Versions of a model: numbered, waiting until a person decides."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from lineside.core import ConflictError, InvalidError, NotFoundError, RefusedError
from lineside.models import Manifest, Metric, ModelVersions, Registry, Status, build_package
from lineside.models.versions import Approvers, Creation, makers
from lineside.store import Records, open_blobs
from lineside.testing import FakeClock
from lineside.vision import ClassRule

Parts = tuple[Manifest, dict[str, bytes]]
Make = Callable[[str], bytes]
METRICS = {"accuracy": Metric(value=0.9, low=0.8, high=0.95, n=50, baseline=0.5)}


@pytest.fixture
def versions(records: Records, clock: FakeClock) -> Iterator[ModelVersions]:
    blobs = open_blobs("memory://")
    yield ModelVersions(records, Registry(records, blobs, clock=clock), clock=clock)
    blobs.close()


@pytest.fixture
def make(parts: Parts) -> Make:
    manifest, files = parts
    return lambda name: build_package(replace(manifest, name=name), files)


def test_versions_count_up_within_their_group(versions: ModelVersions, make: Make) -> None:
    for name in ("one", "two", "three"):
        versions.register(make(name), group="tiles", by="ada", metrics=METRICS)
    versions.register(make("one"), group="tiles-2", by="ada", metrics=METRICS)
    assert [one.number for one in versions.of("tiles")] == [1, 2, 3]
    assert [one.number for one in versions.of("tiles-2")] == [1]
    assert versions.groups() == ("tiles", "tiles-2")
    assert versions.one("tiles", 2).metrics == METRICS
    assert versions.of("nothing") == ()


def test_a_package_registered_again_keeps_its_number(versions: ModelVersions, make: Make) -> None:
    first = versions.register(make("one"), group="tiles", by="ada", metrics=METRICS)
    assert versions.register(make("one"), group="tiles", by="bob", metrics={}) == first


def test_a_package_of_another_task_is_refused_whatever_the_way(
    versions: ModelVersions, make: Make, parts: Parts
) -> None:
    classes = ClassRule(
        labels=parts[0].labels, temperature=1.0, floor=0.0, cuts=(0.5, 0.5), error_rate=1.0,
        class_conditional=False, calibration_pictures=0,
    )  # fmt: skip
    changed = replace(parts[0], task="classify", rules=(), classes=classes)
    other = build_package(changed, parts[1])
    said = r"of task classify, and tiles/1 is of task multilabel \(tiles\).*fix: Name another group"
    versions.register(make("one"), group="tiles", by="ada", metrics={})
    versions.begin("tiles", by="ada")
    versions.move("tiles", 2, to=Creation.IN_PROGRESS)
    with pytest.raises(InvalidError, match=said):
        versions.complete("tiles", 2, package=other, metrics={})
    with pytest.raises(InvalidError, match=said):
        versions.register(other, group="tiles", by="ada", metrics={})
    assert versions.of("tiles")[1].creation is Creation.IN_PROGRESS
    versions.decide("tiles", 1, status=Status.REJECTED, by="eve", reason="of the wrong task")
    assert versions.register(other, group="tiles", by="ada", metrics={}).number == 3


def test_the_newest_approved_is_found_over_many_pages(versions: ModelVersions, make: Make) -> None:
    for number in range(1, 13):
        versions.register(make(f"m{number}"), group="tiles", by="ada", metrics={})
    with pytest.raises(NotFoundError, match="no version of 'tiles' is approved"):
        versions.newest_approved("tiles")
    for number in (2, 9, 10):
        versions.decide("tiles", number, status=Status.APPROVED, by="eve", reason="looked at it")
    assert versions.newest_approved("tiles").number == 10
    versions.decide("tiles", 10, status=Status.REJECTED, by="eve", reason="too many escapes")
    assert versions.newest_approved("tiles").number == 9
    assert [verdict.status for verdict in versions.one("tiles", 10).verdicts] == [
        Status.APPROVED,
        Status.REJECTED,
    ]


def test_more_versions_than_a_page_holds_are_all_read(
    versions: ModelVersions, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineside.store.contract._PAGE", 2)
    for number in range(5):
        versions.register(make(f"m{number}"), group="tiles", by="ada", metrics={})
    versions.decide("tiles", 5, status=Status.APPROVED, by="eve", reason="good")
    assert versions.newest_approved("tiles").number == 5


@pytest.mark.parametrize(
    ("by", "reason", "status"),
    [("", "x", Status.APPROVED), ("ada", " ", Status.REJECTED), ("ada", "x", Status.PENDING)],
)
def test_a_decision_names_person_and_reason(
    versions: ModelVersions, make: Make, by: str, reason: str, status: Status
) -> None:
    versions.register(make("one"), group="tiles", by="ada", metrics={})
    with pytest.raises(InvalidError):
        versions.decide("tiles", 1, status=status, by=by, reason=reason)


@pytest.mark.parametrize("group", ["", "a b", "-a", "a/b", "x" * 70, "a--b"])
def test_a_name_that_is_none_is_refused(versions: ModelVersions, make: Make, group: str) -> None:
    with pytest.raises(InvalidError, match="names no group"):
        versions.register(make("one"), group=group, by="ada", metrics={})


def test_what_is_not_there_is_named(versions: ModelVersions) -> None:
    with pytest.raises(NotFoundError, match="no version 3"):
        versions.one("tiles", 3)


def test_two_who_decide_at_once_are_told(
    versions: ModelVersions, make: Make, records: Records
) -> None:
    versions.register(make("one"), group="tiles", by="ada", metrics={})
    document = records.documents.get("model-version", "tiles/00000001")
    versions.decide("tiles", 1, status=Status.APPROVED, by="eve", reason="good")
    with pytest.raises(ConflictError):
        records.documents.put(
            "model-version", document.id, body=document.body, expect=document.version
        )


def test_nobody_approves_what_is_their_own(versions: ModelVersions, parts: Parts) -> None:
    manifest, files = parts
    trained = replace(manifest, lineage=replace(manifest.lineage, trained_by="Bob"))
    made = versions.register(build_package(trained, files), group="tiles", by="ada", metrics={})
    assert makers(made) == ("Bob", "ada")
    for name in ("ada", "Ada ", "BOB"):
        with pytest.raises(RefusedError, match="you can't approve your own version"):
            versions.decide("tiles", 1, status=Status.APPROVED, by=name, reason="mine")
    assert versions.one("tiles", 1).verdicts == ()
    versions.decide("tiles", 1, status=Status.REJECTED, by="ada", reason="a mistake of mine")
    alone = Approvers.ANYBODY
    own = versions.decide(
        "tiles", 1, status=Status.APPROVED, by="ada", reason="nobody else here", approvers=alone
    )
    assert [verdict.own for verdict in own.verdicts] == [False, True]
    other = versions.decide(
        "tiles", 1, status=Status.APPROVED, by="eve", reason="good", approvers=alone
    )
    assert not other.verdicts[-1].own


def test_a_version_can_be_begun_before_its_package_is_there(
    versions: ModelVersions, make: Make
) -> None:
    begun = versions.begin("tiles", by="ada", evidence={"run": "run_1"})
    assert (begun.number, begun.creation, begun.digest) == (1, Creation.PENDING, "")
    assert versions.begin("tiles", by="ada").number == 2
    with pytest.raises(ConflictError, match="the version is Pending"):
        versions.decide("tiles", 1, status=Status.APPROVED, by="eve", reason="blind")
    with pytest.raises(ConflictError, match="Completed does not follow"):
        versions.complete("tiles", 1, package=make("one"), metrics=METRICS)
    with pytest.raises(InvalidError, match="without its package"):
        versions.move("tiles", 1, to=Creation.COMPLETED)
    versions.move("tiles", 1, to=Creation.IN_PROGRESS)
    done = versions.complete("tiles", 1, package=make("one"), metrics=METRICS)
    assert (done.creation, done.status, done.metrics) == (
        Creation.COMPLETED, Status.PENDING, METRICS,
    )  # fmt: skip
    with pytest.raises(InvalidError, match="without a reason"):
        versions.move("tiles", 2, to=Creation.FAILED)
    failed = versions.move("tiles", 2, to=Creation.FAILED, reason="out of memory")
    assert failed.creation_reason == "out of memory"
    assert versions.register(make("two"), group="tiles", by="ada", metrics={}).number == 3
    assert [one.name for one in versions.holding(done.digest)] == ["tiles/1"]


def test_what_goes_is_no_longer_the_newest_approved(versions: ModelVersions, make: Make) -> None:
    for name in ("one", "two"):
        versions.register(make(name), group="tiles", by="ada", metrics={})
    for number in (1, 2):
        versions.decide("tiles", number, status=Status.APPROVED, by="eve", reason="good")
    versions.move("tiles", 2, to=Creation.DELETING, reason="wrong data")
    assert versions.newest_approved("tiles").number == 1
    for to in Creation:
        with pytest.raises((ConflictError, InvalidError)):
            versions.move("tiles", 2, to=to, reason="x")
    assert versions.register(make("three"), group="tiles", by="ada", metrics={}).number == 3


def test_a_version_kept_before_there_were_makings_is_read(
    versions: ModelVersions, records: Records, make: Make
) -> None:
    versions.register(make("one"), group="tiles", by="ada", metrics={})
    document = records.documents.get("model-version", "tiles/00000001")
    fresh = {"creation", "creation_reason", "trained_by"}
    old = {key: value for key, value in document.body.items() if key not in fresh}
    records.documents.put("model-version", document.id, body=old)
    assert versions.one("tiles", 1).creation is Creation.COMPLETED
