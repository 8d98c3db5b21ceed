"""Pascal VOC: corners count from 1, sets say the parts, and hostile XML is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lineside.core import InvalidError
from lineside.datasets import Marked, Part, load_source
from lineside.datasets.formats.voc import parse_xml
from lineside.vision import decode_picture

Put = Callable[[Path, int], Path]
BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def annotation(*objects: str, file: str = "a.png", size: str = "") -> str:
    return f"<annotation><filename>{file}</filename>{size}{''.join(objects)}</annotation>"


def thing(*corners: float, name: str = "dent") -> str:
    return f"<object><name>{name}</name><difficult>0</difficult>{BOX.format(*corners)}</object>"


@pytest.fixture
def folder(tmp_path: Path, put: Put) -> Path:
    put(tmp_path / "JPEGImages" / "a.png", 1)
    put(tmp_path / "JPEGImages" / "b.png", 2)
    notes = tmp_path / "Annotations"
    notes.mkdir()
    (notes / "a.xml").write_text(annotation(thing(1, 2, 10, 12), thing(3, 3, 4, 4, name="rust")))
    (notes / "b.xml").write_text(annotation(file="C:\\pictures\\b.png"))
    sets = tmp_path / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("a  1\n")
    (sets / "val.txt").write_text("b\n")
    (sets / "dent_train.txt").write_text("a -1\n")
    return tmp_path


def test_corners_count_from_one_with_the_far_one_inside(folder: Path) -> None:
    found = load_source(folder)
    assert found.format == "voc"
    first, second = found.samples
    assert first.marked == (
        Marked(label="dent", x0_px=0, y0_px=1, x1_px=10, y1_px=12),
        Marked(label="rust", x0_px=2, y0_px=2, x1_px=4, y1_px=4),
    )
    assert (first.labels, first.split) == (("dent", "rust"), Part.TRAIN)
    assert (second.marked, second.split) == ((), Part.VALID)


def test_classes_of_a_mask_are_defect_and_its_void_is_not(folder: Path) -> None:
    mask = Image.new("P", (24, 16), 0)
    mask.putpalette([value for grey in range(256) for value in (grey, 0, 0)])
    mask.paste(3, (0, 0, 4, 4))
    mask.paste(255, (8, 0, 12, 4))
    (folder / "SegmentationClass").mkdir()
    mask.save(folder / "SegmentationClass" / "a.png")
    found = load_source(folder)
    drawn = decode_picture(found.read_file(found.samples[0].mask_digest or "sha256:"))[..., 0]  # type: ignore[arg-type]  # it has one
    assert (drawn > 127)[:4, :4].all()
    assert int((drawn > 127).sum()) == 16
    assert found.samples[1].mask_digest is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (annotation(thing(5, 5, 4, 9)), "without area"),
        (annotation("<object><name>dent</name></object>"), "without name or box"),
        (annotation(thing("x", 1, 2, 3)), "not a number"),  # type: ignore[arg-type]  # no number
        (annotation(file="none.png"), "no picture none.png"),
        ("<annotation><object></annotation>", "not XML"),
        (annotation(size="<size><width>48</width><height>32</height></size>"), "made for 48 x 32"),
        ('<!DOCTYPE a [<!ENTITY b "bb">]>' + annotation(), "document type"),
    ],
)
def test_an_annotation_that_cannot_be_used_takes_its_picture_with_it(
    *, folder: Path, text: str, why: str
) -> None:
    (folder / "Annotations" / "a.xml").write_text(text)
    (folder / "JPEGImages" / "a.png").rename(folder / "JPEGImages" / "c.png")
    if "none.png" not in text:
        (folder / "JPEGImages" / "c.png").rename(folder / "JPEGImages" / "a.png")
    found = load_source(folder, format="voc")
    assert [sample.name for sample in found.samples] == ["JPEGImages/b.png"]
    assert any(why in note.reason for note in found.skipped)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_a_sentence(raw: bytes) -> None:
    try:
        parse_xml(raw, where="x.xml")
    except InvalidError as error:
        assert error.fix  # noqa: PT017  either outcome is right


def test_a_bomb_of_entities_is_refused_unread() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>'
    with pytest.raises(InvalidError, match="document type"):
        parse_xml(bomb.encode("utf-16"), where="x.xml")
