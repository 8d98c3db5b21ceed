"""A package beside the one in use: who became right, who became wrong, and how fast."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lineside.cli.app import _run
from lineside.core import Digest, encode
from lineside.datasets import Library, Part
from lineside.datasets.library import FreezePlan
from lineside.models import Comparison, Package, build_package
from lineside.store import open_blobs, open_records
from lineside.testing import FakeClock
from lineside.training import Machine, compare, unseen_of
from lineside.training.evaluation.compare import Unseen
from lineside.training.evaluation.evaluate import TRAINING_FILE, TrainingEvidence
from tests.training.test_evaluated_packages import CONSTANT, METER, Surface, packed

HERE = Machine(name="bench", processor="one of ours")


def made(model: bytes, *, seen: Sequence[Digest] = (), **lineage: str) -> Package:
    """A package that says what it was trained on."""
    package = Package.read(packed(model))
    manifest = replace(package.manifest, lineage=replace(package.manifest.lineage, **lineage))  # type: ignore[arg-type]  # digests are strings
    evidence = TrainingEvidence(pictures=tuple(seen), majority={})
    return Package.read(
        build_package(manifest, {"network.onnx": model, TRAINING_FILE: encode(evidence)})
    )


def pictures_of(surface: Surface) -> Unseen:
    return Unseen(dataset="surface/1", samples=tuple(surface.samples), files=surface.read)


def compared(version: Package, in_use: Package | None, pictures: Unseen) -> Comparison:
    return compare(version, in_use, pictures=pictures, clock=FakeClock(), machine=HERE)


def test_every_picture_that_became_right_or_wrong_is_listed_with_what_was_said() -> None:
    surface = Surface(20, every=4, apart=25)
    found = compared(made(METER), made(CONSTANT), pictures_of(surface))
    assert (found.n, found.better_count, found.worse_count, found.otherwise) == (20, 5, 0, 0)
    assert {one.truth for one in found.better} == {"anomalous"}
    assert {(one.before, one.after) for one in found.better} == {("normal", "anomalous")}
    bad = {one.digest for one in surface.samples if one.labels == ("anomalous",)}
    assert {one.digest for one in found.better} == bad
    assert (found.this["accuracy"].value, found.beside["accuracy"].value) == (1.0, 0.75)
    assert found.why_not == ""


def test_the_other_way_round_they_are_the_ones_that_became_wrong() -> None:
    surface = Surface(20, every=4, apart=25)
    one = compared(made(METER), made(CONSTANT), pictures_of(surface))
    other = compared(made(CONSTANT), made(METER), pictures_of(surface))
    assert [(c.picture, c.after, c.before) for c in other.worse] == [
        (c.picture, c.before, c.after) for c in one.better
    ]
    assert (other.this, other.beside) == (one.beside, one.this)
    same = compared(made(METER), made(METER), pictures_of(surface))
    assert (same.better_count, same.worse_count, same.otherwise, same.n) == (0, 0, 0, 20)


def test_what_the_package_in_use_was_trained_on_is_left_out_for_both() -> None:
    surface = Surface(20, every=4, apart=25)
    seen = [one.digest for one in surface.samples[:6]]
    found = compared(made(METER), made(CONSTANT, seen=seen), pictures_of(surface))
    assert (found.n, found.left_out, found.better_count) == (14, 6, 3)
    everything = [one.digest for one in surface.samples]
    none = compared(made(METER), made(CONSTANT, seen=everything), pictures_of(surface))
    assert (none.n, none.left_out) == (0, 20)
    assert "was trained on every picture" in none.why_not
    assert none.speed is not None


def test_speed_names_the_machine_and_how_often_it_was_measured() -> None:
    surface = Surface(4, every=2, apart=25)
    found = compared(made(METER), made(CONSTANT), pictures_of(surface)).speed
    assert found is not None
    assert (found.machine, found.processor, found.pictures) == ("bench", "one of ours", "test")
    assert found.n == 16  # four pictures, four rounds after the first
    assert found.in_use_ms is not None
    alone = compared(made(METER), None, pictures_of(surface))
    assert alone.speed is not None
    assert alone.speed.in_use_ms is None
    assert "Nothing is in use" in alone.why_not


def test_of_another_task_nothing_is_compared() -> None:
    manifest = replace(Package.read(packed(METER)).manifest, task="segment")
    other = replace(made(CONSTANT), manifest=manifest)
    found = compared(made(METER), other, pictures_of(Surface(4, every=2, apart=25)))
    assert found.why_not == "The package in use answers the task segment, this one classify."
    assert found.in_use == other.digest


@pytest.fixture
def place(tmp_path: Path) -> tuple[str, str]:
    """A store with ``surface/1``: eight pictures to learn from, twelve held out."""
    surface, clock = Surface(20, every=4, apart=25), FakeClock()
    urls = (f"sqlite:///{tmp_path}/records.db", f"file://{tmp_path}/blobs")
    (tmp_path / "blobs").mkdir()
    with open_records(urls[0], clock=clock) as records:
        blobs = open_blobs(urls[1])
        library = Library(records, blobs, clock=clock)
        parted = [
            replace(one, split=Part.TRAIN if place < 8 else Part.TEST)
            for place, one in enumerate(surface.samples)
        ]
        library.add("surface", ((one, surface.read(one.digest)) for one in parted), by="ada")
        library.freeze("surface", by="ada", plan=FreezePlan())
        blobs.close()
    return urls


def version_digest(urls: tuple[str, str]) -> Digest:
    with open_records(urls[0], clock=FakeClock()) as records:
        blobs = open_blobs(urls[1])
        try:
            return Library(records, blobs, clock=FakeClock()).version("surface", 1).digest
        finally:
            blobs.close()


def held(package: Package, urls: tuple[str, str]) -> Unseen:
    with unseen_of(package, clock=FakeClock(), records_url=urls[0], blobs_url=urls[1]) as found:
        return found


def test_the_test_part_of_its_own_dataset_version_is_taken(place: tuple[str, str]) -> None:
    digest = version_digest(place)
    found = held(made(METER, dataset="surface/1", data_digest=digest), place)
    assert (found.dataset, len(found.samples), found.why_not) == ("surface/1", 12, "")


@pytest.mark.parametrize(
    ("lineage", "words"),
    [
        ({"dataset": "tiles"}, "trained on tiles, which is no version of a dataset"),
        ({"dataset": ""}, "trained on data without a name"),
        ({"dataset": "surface/9"}, "Its data surface/9 cannot be read here"),
        ({"dataset": "other/1"}, "Its data other/1 cannot be read here"),
        ({"dataset": "surface/1"}, "the digests differ"),
    ],
)
def test_data_that_is_not_here_is_a_sentence(
    place: tuple[str, str], lineage: dict[str, str], words: str
) -> None:
    found = held(made(METER, seen=(), **lineage), place)
    assert words in found.why_not
    assert found.samples == ()


def test_a_version_that_was_trained_on_everything_says_so(place: tuple[str, str]) -> None:
    seen = [one.digest for one in Surface(20, every=4, apart=25).samples]
    package = made(METER, seen=seen, dataset="surface/1", data_digest=version_digest(place))
    assert "Every labelled picture of surface/1 was trained on" in held(package, place).why_not


def test_the_command_prints_it_as_text_and_as_json(
    place: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = made(METER, dataset="surface/1", data_digest=version_digest(place))
    files = [tmp_path / "new.lspkg", tmp_path / "old.lspkg"]
    inside = {name: each for name, each in package.files.items() if name != "manifest.json"}
    files[0].write_bytes(build_package(package.manifest, inside))
    files[1].write_bytes(packed(CONSTANT))
    words = ["package", "compare", *map(str, files), "--records", place[0], "--blobs", place[1]]
    assert _run(words) == 0
    told = capsys.readouterr().out
    assert "12 pictures of surface/1: 3 became right, 0 became wrong" in told
    assert "accuracy: 1.000, in use 0.750" in told
    assert "speed: median" in told
    assert _run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], len(found["better"])) == ("lineside.comparison/1", 3)
    assert _run(["package", "compare", str(tmp_path / "none.lspkg")]) == 3
