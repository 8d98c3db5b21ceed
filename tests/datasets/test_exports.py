"""What is written in a format reads back as it was, and what a format cannot hold is said."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from lineside.core import ConflictError, Digest, InvalidError, NotFoundError, digest_of
from lineside.datasets import Library, Marked, Part, Sample, load_source
from lineside.datasets.samples import Import
from lineside.datasets.writers import write_source
from lineside.vision import decode_picture, encode_png

Files = dict[Digest, bytes]


def marked(label: str, *corners: float) -> Marked:
    return Marked(
        label=label, x0_px=corners[0], y0_px=corners[1], x1_px=corners[2], y1_px=corners[3]
    )


def drawn(*boxes: tuple[int, int, int, int]) -> bytes:
    mask = np.zeros((16, 24, 3), np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = 255
    return encode_png(mask)


@pytest.fixture
def files(png: Callable[[int], bytes]) -> Files:
    made = [png(number) for number in range(6)]
    made += [drawn((2, 3, 8, 9)), drawn((2, 3, 8, 9), (20, 1, 23, 3))]
    return {digest_of(data): data for data in made}


@pytest.fixture
def samples(files: Files) -> list[Sample]:
    digests = list(files)
    return [
        Sample(
            name="line/a.png",
            digest=digests[0],
            labels=("dent", "rust"),
            known=("dent", "good", "rust"),
            split=Part.TRAIN,
            group="tile 1",
            count=2,
            marked=(marked("dent", 2, 3, 8, 9.5), marked("rust", 0, 0, 24, 16)),
            mask="m",
            mask_digest=digests[6],
            captured_at=datetime(2024, 2, 29, 12, 0, 1, tzinfo=UTC),
            facts={"shift": "early"},
        ),
        Sample(
            name="night/a.png",
            digest=digests[1],
            labels=("dent",),
            known=("dent", "good", "rust"),
            split=Part.VALID,
            marked=(marked("dent", 2, 3, 8, 9),),
            mask="m",
            mask_digest=digests[7],
            count=1,
        ),
        Sample(
            name="c, d.png",
            digest=digests[2],
            labels=("good",),
            known=("dent", "good", "rust"),
            split=Part.TEST,
            marked=(),
            count=0,
        ),
    ]


@pytest.fixture
def again(files: Files, tmp_path: Path) -> Callable[..., Import]:
    """Writes and reads; the notes of writing are left in ``notes``."""

    def through(samples: list[Sample], form: str, **reading: object) -> Import:
        to = tmp_path / form
        written = write_source(samples, files=files.__getitem__, to=to, format=form)
        assert written.samples <= len(samples)
        found = load_source(to, **reading)  # type: ignore[arg-type]  # by name
        assert found.format == form
        return replace(found, skipped=(*written.notes, *found.skipped))

    return through


def by_digest(found: Import) -> dict[Digest, Sample]:
    return {sample.digest: sample for sample in found.samples}


def test_csv_holds_everything(samples: list[Sample], again: Callable[..., Import]) -> None:
    found = again(samples, "csv", labels=("dent", "good", "rust"))
    assert found.skipped == ()
    told = by_digest(found)
    for sample in samples:
        read = told[sample.digest]
        for field in ("labels", "known", "split", "group", "count", "marked", "captured_at"):
            assert getattr(read, field) == getattr(sample, field), field
        assert read.mask_digest == sample.mask_digest
        assert read.facts == sample.facts
        assert found.read(read)


def test_csv_holds_points_beside_boxes(samples: list[Sample], again: Callable[..., Import]) -> None:
    marks = (marked("dent", 2, 3, 8, 9), marked("dent", 4, 4, 12, 12), marked("rust", 5, 5, 5, 5))
    found = again([replace(samples[0], marked=marks)], "csv")
    read = found.samples[0].marked or ()
    assert sorted(read, key=repr) == sorted(marks, key=repr)


def test_csv_keeps_open_what_nobody_judged(
    samples: list[Sample], again: Callable[..., Import]
) -> None:
    partly = replace(samples[1], known=("dent",))
    found = again([samples[0], partly], "csv", labels=("dent", "good", "rust"))
    assert by_digest(found)[partly.digest].known == ("dent",)
    assert by_digest(found)[samples[0].digest].known == ("dent", "good", "rust")


@pytest.mark.parametrize(
    "judged",
    [
        (("dent", "good", "rust"), ("dent", "good", "rust"), ("dent", "good", "rust")),
        (("dent", "rust"), ("dent", "good"), ("good",)),
        (("dent", "rust"), ("dent",), ("good",)),
    ],
)
def test_a_version_that_is_written_as_csv_and_read_has_the_same_digest(
    *, judged: tuple[tuple[str, ...], ...], samples: list[Sample], files: Files,
    again: Callable[..., Import], library: Library,
) -> None:  # fmt: skip
    bare = Sample(name="bare.png", digest=list(files)[3], marked=(), group="tile 1")
    told = [replace(one, known=known) for one, known in zip(samples, judged, strict=True)]
    drawn = [(one, files[one.digest]) for one in (*told, bare)]
    library.add("here", drawn, by="ann", files=files.__getitem__)
    version = library.freeze("here", by="ann")
    found = again(list(version.parted), "csv")
    assert found.skipped == ()
    read = ((sample, found.read(sample)) for sample in found.samples)
    library.add("there", read, by="bob", files=found.read_file)
    assert library.freeze("there", by="bob").digest == version.digest


def test_coco_holds_boxes_points_masks_and_parts(
    samples: list[Sample], files: Files, again: Callable[..., Import]
) -> None:
    dotted = replace(samples[2], marked=(marked("dent", 3, 4, 3, 4),), labels=("dent",))
    found = again([*samples[:2], dotted], "coco")
    told = by_digest(found)
    for sample in (*samples[:2], dotted):
        read = told[sample.digest]
        assert (read.marked, read.labels, read.split) == (
            sample.marked,
            sample.labels,
            sample.split,
        )
        if sample.mask_digest is not None:
            mask = decode_picture(found.read_file(read.mask_digest or Digest("")))
            assert np.array_equal(mask, decode_picture(files[sample.mask_digest]))


def test_coco_holds_a_mask_alone(samples: list[Sample], again: Callable[..., Import]) -> None:
    alone = replace(samples[1], marked=None, labels=(*samples[1].labels, "scratch"))
    found = again([alone], "coco")
    assert found.samples[0].mask_digest is not None
    assert found.samples[0].marked == (marked("dent", 2, 1, 23, 9),)
    told = "which of 2 labels its mask shows; written as dent"
    assert told in [note.reason for note in found.skipped]


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_boxes_come_back(*, form: str, samples: list[Sample], again: Callable[..., Import]) -> None:
    found = again(samples, form)
    told = by_digest(found)
    for sample in samples:
        read = told[sample.digest].marked or ()
        assert [mark.label for mark in read] == [mark.label for mark in sample.marked or ()]
        for mark, was in zip(read, sample.marked or (), strict=True):
            assert mark.x1_px == pytest.approx(was.x1_px, abs=1e-5)
            assert mark.y1_px == pytest.approx(was.y1_px, abs=1e-5)
            assert mark.x0_px == pytest.approx(was.x0_px, abs=1e-5)
        assert told[sample.digest].split is sample.split
    notes = [note.reason for note in found.skipped]
    assert any("labels that no object" in note for note in notes)


def test_voc_holds_masks(samples: list[Sample], files: Files, again: Callable[..., Import]) -> None:
    found = again(samples[:1], "voc")
    mask = decode_picture(found.read_file(found.samples[0].mask_digest or Digest("")))
    assert np.array_equal(mask, decode_picture(files[samples[0].mask_digest or Digest("")]))


def test_masks_come_with_a_black_one_for_good_parts(
    samples: list[Sample], again: Callable[..., Import]
) -> None:
    undrawn = replace(samples[0], mask_digest=None)
    found = again([undrawn, samples[1], samples[2]], "masks")
    told = by_digest(found)
    labels = [told[one.digest].labels for one in samples[1:3]]
    assert labels == [("anomalous",), ("normal",)]
    assert undrawn.digest not in told
    assert "nobody drew" in found.skipped[0].reason


def test_masks_are_black_where_the_label_was_named_good(
    samples: list[Sample], files: Files, tmp_path: Path
) -> None:
    named = replace(samples[0], mask_digest=None, marked=None, labels=("i.O.",))
    written = write_source(
        [named], files=files.__getitem__, to=tmp_path / "m", format="masks", good=("i.O.",)
    )
    assert written.samples == 1


def test_class_folders_hold_one_label(samples: list[Sample], again: Callable[..., Import]) -> None:
    found = again(samples, "folders")
    second = f"val/dent/a-{samples[1].digest[7:19]}.png"
    assert [sample.name for sample in found.samples] == ["test/good/c, d.png", second]
    assert [sample.split for sample in found.samples] == [Part.TEST, Part.VALID]
    assert found.skipped[0].reason == "2 labels; a class folder has one"


@pytest.mark.parametrize("form", ["lst", "records"])
@pytest.mark.parametrize("several", [True, False])
def test_lists_and_records_hold_labels_by_number(
    *, form: str, several: bool, samples: list[Sample], again: Callable[..., Import]
) -> None:
    if not several:
        samples = [replace(samples[0], labels=("rust",)), *samples[1:]]
    found = again(samples, form)
    told = by_digest(found)
    for sample in samples:
        read = told[sample.digest]
        assert (read.labels, read.known, read.split) == (
            sample.labels,
            ("dent", "good", "rust"),
            sample.split,
        )
    assert any("boxes or masks" in note.reason for note in found.skipped)


def test_names_are_made_safe_and_never_meet(
    samples: list[Sample], files: Files, tmp_path: Path
) -> None:
    digests = list(files)
    names = ["../../etc/pass\twd.png", "A.png", "b/a.jpeg", "?.png", "."]
    odd = [Sample(name=name, digest=digests[n]) for n, name in enumerate(names)]
    write_source(odd, files=files.__getitem__, to=tmp_path / "out", format="csv")
    written = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert len({name.lower() for name in written}) == len(names)
    assert "pass_wd.png" in written
    assert len(load_source(tmp_path / "out").samples) == len(names)
    assert samples


def test_nothing_is_left_of_what_could_not_be_written(
    samples: list[Sample], files: Files, tmp_path: Path
) -> None:
    def gone(digest: Digest) -> bytes:
        if digest == samples[2].digest:
            raise NotFoundError("gone", where=digest)
        return files[digest]

    with pytest.raises(NotFoundError):
        write_source(samples, files=gone, to=tmp_path / "out", format="coco")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidError, match="cannot be written"):
        write_source(samples, files=gone, to=tmp_path / "out", format="abid")
    with pytest.raises(InvalidError, match=r"no picture to write as folders: .* 2 labels"):
        write_source(samples[:1], files=gone, to=tmp_path / "out", format="folders")
    bare = [replace(sample, marked=None, mask_digest=None) for sample in samples]
    for form in ("coco", "yolo", "voc"):
        with pytest.raises(InvalidError, match="nobody marked objects"):
            write_source(bare, files=files.__getitem__, to=tmp_path / "out", format=form)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(ConflictError):
        write_source(samples, files=gone, to=tmp_path / "full", format="csv")
    with pytest.raises(NotFoundError):
        write_source(samples, files=gone, to=tmp_path / "no" / "folder", format="csv")


@pytest.mark.data
@pytest.mark.parametrize("form", ["csv", "coco", "voc"])
@pytest.mark.parametrize("name", ["blood-cell-counting", "bean-counting"])
def test_every_real_box_comes_back(
    *, name: str, form: str, data_folder: Path, tmp_path: Path
) -> None:
    source = load_source(data_folder / name)
    write_source(source.samples, files=source.read_file, to=tmp_path / "out", format=form)
    told = by_digest(load_source(tmp_path / "out"))
    assert len(told) == len(source.samples)
    assert all(told[sample.digest].marked == sample.marked for sample in source.samples)


@pytest.mark.data
def test_real_masks_come_back(data_folder: Path, tmp_path: Path) -> None:
    source = load_source(data_folder / "kolektor-sdd")
    write_source(source.samples, files=source.read_file, to=tmp_path / "out", format="masks")
    told = by_digest(load_source(tmp_path / "out"))
    for sample in source.samples:
        read = told[sample.digest]
        assert read.mask_digest == sample.mask_digest
        assert read.labels == (("anomalous",) if "defect" in sample.labels else ("normal",))
