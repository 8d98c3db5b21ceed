"""Annotations: what is refused and in which words, masks, and two people at one picture."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import ConflictError, InvalidError, digest_of
from lineside.datasets import Library, Marked, Sample
from lineside.datasets.annotations import (
    MASK,
    OBJECTS,
    Annotation,
    PixelMask,
    ReviewState,
    annotation_faults,
    check_comment,
    check_label,
    encoded_mask,
    mask_of_annotation,
    pixel_mask,
)
from lineside.store import open_blobs, open_records
from lineside.testing import FakeClock
from lineside.vision import encode_png
from lineside.vision.masks import rle_of

SIZE = (24, 16)
NAMES = ("dent", "good", "scratch")


def box(x0: float, y0: float, x1: float, y1: float, *, label: str = "scratch") -> Marked:
    return Marked(label=label, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)


def painted(*columns: int, height: int = 16, width: int = 24) -> PixelMask:
    mask = np.zeros((height, width), np.bool_)
    mask[:, list(columns)] = True
    return PixelMask(rle=rle_of(mask), width_px=width, height_px=height)


WHOLE = Annotation(
    labels=("scratch",),
    known=("dent", "scratch"),
    marked=(box(1, 2, 9, 8), box(5, 5, 5, 5, label="dent")),
    polygons=(((0.0, 0.0), (4.0, 0.0), (4.0, 4.0)),),
    mask=painted(20, 21),
    count=3,
)


def test_an_annotation_of_every_kind_is_sound() -> None:
    assert annotation_faults(WHOLE, size=SIZE, names=NAMES) == ()


@pytest.mark.parametrize(
    ("annotation", "path", "words"),
    [
        (Annotation(marked=(box(1, 2, 25, 8),)), "$.marked[0]", "inside the image of 24 x 16"),
        (Annotation(marked=(box(9, 2, 1, 8),)), "$.marked[0]", "inside the image"),
        (Annotation(marked=(box(9, 2, 9, 8),)), "$.marked[0]", "a height and a width"),
        (Annotation(marked=(box(-1, 2, -1, 2),)), "$.marked[0]", "point -1, 2, -1, 2"),
        (Annotation(labels=("scra",)), "$.labels[0]", "Known: dent, good, scratch."),
        (Annotation(known=("rust",)), "$.known[0]", "a label of the dataset"),
        (Annotation(marked=(box(1, 1, 2, 2, label="x"),)), "$.marked[0].label", "'x'"),
        (Annotation(count=-1), "$.count", "from 0 to"),
        (Annotation(mask=painted(1, width=25)), "$.mask", "mask of 25 x 16 pixels"),
        (
            Annotation(mask=PixelMask(rle="5 x", width_px=24, height_px=16)),
            "$.mask.rle",
            "no run length",
        ),
        (Annotation(polygons=(((0.0, 0.0), (1.0, 1.0)),)), "$.polygons[0]", "three corners"),
        (Annotation(polygons=(((0.0, 0.0), (30.0, 1.0), (3.0, 3.0)),)), "$.polygons[0]", "inside"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    annotation: Annotation, path: str, words: str
) -> None:
    (fault,) = annotation_faults(annotation, size=SIZE, names=NAMES)
    assert fault.path == path
    assert words in f"{fault} {fault.value}"
    assert fault.fix


def test_all_faults_are_said_together() -> None:
    wrong = Annotation(labels=("a", "b"), count=-1, marked=(box(0, 0, 99, 99, label="c"),))
    assert len(annotation_faults(wrong, size=SIZE, names=NAMES)) == 5


def test_polygons_and_paint_are_one_mask() -> None:
    mask = mask_of_annotation(WHOLE, size=SIZE)
    assert mask is not None
    assert mask[:, 20:22].all()
    assert mask[0, :4].all()  # the centre of (3, 0) lies inside the triangle, that of (0, 3) not
    assert not mask[3, 0]
    png = encoded_mask(WHOLE, size=SIZE)
    assert png is not None
    assert pixel_mask(png).rle == rle_of(mask)
    assert mask_of_annotation(Annotation(), size=SIZE) is None


@given(
    st.integers(1, 12).flatmap(
        lambda width: st.lists(
            st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=12
        )
    )
)
def test_a_painted_mask_comes_back_from_its_image(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    height, width = mask.shape
    one = Annotation(mask=PixelMask(rle=rle_of(mask), width_px=width, height_px=height))
    png = encoded_mask(one, size=(width, height))
    assert png is not None
    assert pixel_mask(png) == one.mask


@pytest.mark.parametrize("text", ["", "  ", "a,b", "x" * 81, "a\nb"])
def test_a_label_that_no_file_could_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="cannot name a label"):
        check_label(text)


def test_an_empty_comment_is_refused() -> None:
    with pytest.raises(InvalidError, match="0 characters"):
        check_comment(" \n")
    assert check_comment(" look here ") == "look here"


@pytest.fixture(params=["memory://", "sqlite"])
def stored(request: Any, tmp_path: Path, clock: FakeClock) -> Iterator[Library]:  # noqa: ANN401
    """A library on each kind of store that needs no server."""
    url = request.param if "://" in request.param else f"sqlite:///{tmp_path / 'records.db'}"
    with open_records(url, clock=clock) as records:
        yield Library(records, open_blobs("memory://"), clock=clock)


def test_who_comes_second_overwrites_nothing(stored: Library, png: Callable[[int], bytes]) -> None:
    digest = digest_of(png(1))
    stored.add("plates", [(Sample(name="1.png", digest=digest), png(1))], by="ann")
    entry, seen = stored.entry("plates", digest)
    assert (entry.state, seen) == (ReviewState.TO_LABEL, 1)
    first = stored.annotate(
        "plates", digest, WHOLE, review=ReviewState.LABELLED, by="ann", expect=seen
    )
    with pytest.raises(ConflictError):
        stored.annotate(
            "plates", digest, Annotation(), review=ReviewState.CHECKED, by="bob", expect=seen
        )
    entry, revision = stored.entry("plates", digest)
    assert revision == first == 2
    assert (entry.sample.author, entry.state) == ("ann", ReviewState.LABELLED)
    assert (entry.sample.marked, entry.sample.count) == (WHOLE.marked, 3)
    assert (entry.polygons, entry.painted) == (WHOLE.polygons, WHOLE.mask)


def test_another_mask_takes_the_polygons_along(
    library: Library, png: Callable[[int], bytes]
) -> None:
    digest = digest_of(png(1))
    library.add("plates", [(Sample(name="1.png", digest=digest), png(1))], by="ann")
    library.annotate("plates", digest, WHOLE, review=ReviewState.LABELLED, by="ann", expect=1)
    library.comment("plates", digest, "is this a dent?", by="bob")
    library.recount("plates", digest, count=2, by="cy")
    entry, _ = library.entry("plates", digest)
    assert (entry.sample.count, entry.sample.marked) == (2, WHOLE.marked)
    assert (entry.polygons, entry.painted) == (WHOLE.polygons, WHOLE.mask)
    other = Sample(name="1.png", digest=digest, mask_digest=digest_of(png(3)))
    library.add("plates", [(other, png(1))], by="cy", files=lambda _: png(3))
    entry, _ = library.entry("plates", digest)
    assert (entry.polygons, entry.painted, entry.comments[0].by) == ((), None, "bob")
    library.recount("plates", digest, count=6, by="cy")
    entry, _ = library.entry("plates", digest)
    assert (entry.disputed, entry.sample.marked) == ((MASK, OBJECTS), None)
    assert entry.judgements[1].marked == WHOLE.marked


def test_a_version_holds_what_was_drawn(library: Library, png: Callable[[int], bytes]) -> None:
    digest = digest_of(png(1))
    library.add("plates", [(Sample(name="1.png", digest=digest), png(1))], by="ann")
    library.annotate("plates", digest, WHOLE, review=ReviewState.CHECKED, by="ann", expect=1)
    (sample,) = library.freeze("plates", by="ann").samples
    assert (sample.labels, sample.known) == (("scratch",), ("dent", "scratch"))
    assert (sample.marked, sample.count) == (WHOLE.marked, 3)
    assert sample.mask_digest is not None
    assert pixel_mask(library.read_file(sample.mask_digest)).width_px == 24


def test_a_mask_of_the_same_pixels_keeps_its_file(
    library: Library, png: Callable[[int], bytes]
) -> None:
    drawn = np.zeros((16, 24, 3), np.uint8)
    drawn[2:9, 3:12] = (255, 255, 250)
    grey = cv2.imencode(".png", drawn[..., 0], [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    for number, encoded in enumerate((grey, encode_png(drawn))):
        name, digest = f"plates-{number}", digest_of(png(1))
        sample = Sample(name="1.png", digest=digest, mask_digest=digest_of(encoded))
        files = {digest_of(encoded): encoded}
        library.add(name, [(sample, png(1))], by="ann", files=files.__getitem__)
        before = library.freeze(name, by="ann")
        said = Annotation(mask=pixel_mask(encoded))
        library.annotate(name, digest, said, review=ReviewState.CHECKED, by="bob", expect=1)
        assert library.freeze(name, by="bob") == before
        assert library.add(name, [(sample, png(1))], by="ann", files=files.__getitem__).same == 1
        assert library.entry(name, digest)[0].disputed == ()
        library.annotate(
            name, digest, Annotation(mask=painted(1)), review=ReviewState.CHECKED, by="bob",
            expect=library.entry(name, digest)[1],
        )  # fmt: skip
        assert library.entry(name, digest)[0].sample.mask_digest != digest_of(encoded)


def test_what_one_person_saves_at_one_sitting_is_one_judgement(
    library: Library, png: Callable[[int], bytes], clock: FakeClock
) -> None:
    digest = digest_of(png(1))
    library.add("plates", [(Sample(name="1.png", digest=digest), png(1))], by="ann")
    for expect, state in ((1, ReviewState.LABELLED), (2, ReviewState.CHECKED)):
        library.annotate("plates", digest, WHOLE, review=state, by="ann", expect=expect)
    entry, revision = library.entry("plates", digest)
    assert (len(entry.judgements), revision, entry.state) == (2, 3, ReviewState.CHECKED)
    library.annotate("plates", digest, Annotation(count=2), review=state, by="ann", expect=3)
    assert len(library.entry("plates", digest)[0].judgements) == 2
    clock.advance(4000)
    library.annotate("plates", digest, Annotation(count=4), review=state, by="ann", expect=4)
    library.annotate("plates", digest, Annotation(count=5), review=state, by="bob", expect=5)
    judgements = library.entry("plates", digest)[0].judgements
    assert [one.count for one in judgements] == [None, 2, 4, 5]
