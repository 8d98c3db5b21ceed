"""Pictures are packed in the list's order, prepared as the reference prepares them."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from lineside.core import InvalidError, NotFoundError
from lineside.datasets import load_source
from lineside.datasets.formats import write_lst
from lineside.datasets.packing import PackSettings, pack_lists, prepared
from lineside.datasets.recordio import ImageRecord, iter_records
from lineside.testing.pictures import rack
from lineside.vision import decode_picture, encode_jpeg, encode_png, picture_size

WIDE = encode_png(rack(width=640, height=480))
SMALL = encode_jpeg(rack(width=224, height=224))


def iter_images(path: Path) -> Iterator[tuple[int, ImageRecord]]:
    return ((raw.offset, image) for raw, image in iter_records(path) if image is not None)


def shape(encoded: bytes) -> tuple[int, ...]:
    return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), -1)).shape


@pytest.mark.parametrize(
    ("encoded", "plan", "size"),
    [
        (WIDE, PackSettings(resize=512), (682, 512)),
        (WIDE, PackSettings(resize=512, center_crop=True), (512, 512)),
        (WIDE, PackSettings(center_crop=True), (480, 480)),
        (SMALL, PackSettings(resize=512), (512, 512)),
        (encode_png(rack(width=30, height=70)), PackSettings(resize=20), (20, 46)),
    ],
)
def test_sizes_are_those_of_the_reference(
    encoded: bytes, plan: PackSettings, size: tuple[int, int]
) -> None:
    assert picture_size(prepared(encoded, plan=plan)) == size


def test_the_crop_comes_before_the_scaling_and_keeps_the_middle() -> None:
    image = rack(width=640, height=480)
    square = cv2.resize(image[:, 80:560, ::-1], (512, 512))
    plan = PackSettings(resize=512, center_crop=True)
    assert prepared(WIDE, plan=plan) == bytes(
        cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    )


def test_a_png_is_packed_without_loss_grey_or_as_stored() -> None:
    image = rack(width=40, height=30)
    lossless = prepared(encode_png(image), plan=PackSettings(encoding=".png", quality=9))
    assert np.array_equal(decode_picture(lossless), image)
    grey = prepared(encode_png(image), plan=PackSettings(encoding=".png", color=0))
    assert shape(grey) == (30, 40)
    alpha = encode_png(np.dstack([image, image[..., 0]]))
    stored = prepared(alpha, plan=PackSettings(encoding=".png", color=-1))
    assert shape(stored) == (30, 40, 4)
    deep = bytes(cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1])
    with pytest.raises(InvalidError, match="more than 8 bits"):
        prepared(deep, plan=PackSettings(color=-1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoding": ".gif"},
        {"quality": 101},
        {"encoding": ".png", "quality": 10},
        {"color": 2},
        {"resize": -1},
        {"threads": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidError):
        PackSettings(**wrong)  # type: ignore[arg-type]  # the refusal is the test


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}.png").write_bytes(encode_png(rack(width=20 + number, height=16)))
    (folder / "broken.png").write_bytes(WIDE[:200])
    return folder


@pytest.mark.parametrize("threads", [1, 4])
def test_what_cannot_be_read_is_reported_and_the_order_stays(
    *, root: Path, tmp_path: Path, threads: int
) -> None:
    order = [4, 8, 0, 2, 6]
    rows = [(number, [number % 3], f"{number}.png") for number in order]
    listed = write_lst([*rows[:2], (90, [1], "broken.png"), (91, [1], "gone.png"), *rows[2:]])
    (tmp_path / "x_train.lst").write_bytes(listed + b"92\tone\t1.png\nbad line\n")
    (packed,) = pack_lists(tmp_path / "x", root, plan=PackSettings(resize=16, threads=threads))
    assert packed.records == 5
    assert packed.labels == {"class-0": 2, "class-1": 1, "class-2": 2}
    assert [note.where.split(" ")[0] for note in packed.skipped] == [
        f"x_train.lst:{place}" for place in (3, 4, 8, 9)
    ]
    found = list(iter_images(tmp_path / "x_train.rec"))
    assert [record.id for _, record in found] == order
    index = "".join(f"{record.id}\t{offset}\n" for offset, record in found)
    assert (tmp_path / "x_train.idx").read_text() == index
    assert not list(tmp_path.glob(".*.new"))


def test_passing_through_leaves_bytes_untouched(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.lst").write_bytes(write_lst([(3, [1.0], "3.png")]))
    pack_lists(tmp_path / "x", root, plan=PackSettings(pass_through=True, resize=99))
    ((_, record),) = iter_images(tmp_path / "x.rec")
    assert record.picture == (root / "3.png").read_bytes()


def test_several_labels_are_packed_or_their_loss_is_said(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x.lst").write_bytes(write_lst([(3, [1, 0, 1], "3.png"), (4, [0, 1, 1], "4.png")]))
    (packed,) = pack_lists(tmp_path / "x", root, plan=PackSettings())
    assert packed.warnings[0].startswith("2 pictures have several labels")
    assert [record.labels for _, record in iter_images(tmp_path / "x.rec")] == [(1.0,), (0.0,)]
    (packed,) = pack_lists(tmp_path / "x", root, plan=PackSettings(pack_label=True))
    assert packed.warnings == ()
    ((_, first), _) = iter_images(tmp_path / "x.rec")
    assert (first.labels, first.as_vector) == ((1.0, 0.0, 1.0), True)
    found = load_source(tmp_path / "x.rec", labels=("blue", "red", "white"))
    assert [sample.labels for sample in found.samples] == [("blue", "white"), ("red", "white")]
    reasons = load_source(tmp_path / "x.rec", labels=("blue", "red")).skipped
    assert "3 label columns" in reasons[0].reason


def test_records_are_a_source_with_the_names_of_their_classes(root: Path, tmp_path: Path) -> None:
    (tmp_path / "x_classes.txt").write_text("dent\ngood\n")
    for part, numbers in (("train", (1, 2, 3)), ("val", (4, 5))):
        rows = [(number, [number % 2], f"{number}.png") for number in numbers]
        (tmp_path / f"x_{part}.lst").write_bytes(write_lst(rows))
    pack_lists(tmp_path / "x", root, plan=PackSettings(pass_through=True))
    found = load_source(tmp_path)
    assert found.format == "records"
    told = [(s.name, s.labels[0], s.known, str(s.split)) for s in found.samples]
    assert told[0] == ("x_train/1.png", "good", ("dent", "good"), "train")
    assert told[3] == ("x_val/4.png", "dent", ("dent", "good"), "valid")
    assert found.read(found.samples[0]) == (root / "1.png").read_bytes()


def test_a_damaged_file_gives_what_is_whole_and_names_the_rest(root: Path, tmp_path: Path) -> None:
    rows = [(number, [0], f"{number}.png") for number in range(5)]
    (tmp_path / "x.lst").write_bytes(write_lst(rows))
    pack_lists(tmp_path / "x", root, plan=PackSettings(pass_through=True))
    path = tmp_path / "x.rec"
    offsets = [offset for offset, _ in iter_images(path)]
    raw = bytearray(path.read_bytes())
    raw[offsets[2]] ^= 0xFF
    path.write_bytes(bytes(raw))
    found = load_source(path)
    assert [sample.facts["id"] for sample in found.samples] == ["0", "1", "3", "4"]
    assert found.skipped[0].where == f"x.rec: byte {offsets[2]}"


def test_what_cannot_be_packed_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no list"):
        pack_lists(tmp_path / "x", root, plan=PackSettings())
    (tmp_path / "x.lst").write_bytes(b"")
    with pytest.raises(NotFoundError, match="no such folder"):
        pack_lists(tmp_path / "x", tmp_path / "none", plan=PackSettings())
