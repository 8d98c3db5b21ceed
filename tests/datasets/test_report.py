from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lineside.core import Digest, InvalidError, NotFoundError, decode_json, digest_of, encode
from lineside.datasets import Leak, Marked, Part, Sample, dataset_report, load_source, report_page
from lineside.datasets.leaks import LeakCheck, LeakReport
from lineside.datasets.report.report import (
    DatasetReport,
    Subject,
    drawn_thumbnail,
    marked_labels,
    subject_of_source,
)
from lineside.datasets.samples import Skipped
from lineside.vision import decode_picture, encode_png


class SourceCache:
    """Pictures by digest, made in the test."""

    def __init__(self) -> None:
        self.kept: dict[Digest, bytes] = {}

    def keep(self, image: NDArray[np.uint8]) -> Digest:
        encoded = encode_png(image)
        self.kept[digest_of(encoded)] = encoded
        return digest_of(encoded)

    def grey(self, level: int, *, number: int, size: tuple[int, int] = (24, 32)) -> Digest:
        rng = np.random.default_rng(number)
        noise = rng.integers(-6, 7, (*size, 3))
        return self.keep(np.asarray(np.clip(level + noise, 0, 255), np.uint8))

    def __call__(self, digest: Digest) -> bytes:
        if digest not in self.kept:
            raise NotFoundError("gone")
        return self.kept[digest]


@pytest.fixture
def shelf() -> SourceCache:
    return SourceCache()


def hole(x0: float, y0: float, *, side: float) -> Marked:
    return Marked(label="hole", x0_px=x0, y0_px=y0, x1_px=x0 + side, y1_px=y0 + side)


def lit_by_label(shelf: SourceCache) -> list[Sample]:
    """Bright good pictures and dark bad ones: the light tells them apart."""
    samples = []
    for number in range(20):
        bad = number % 2 == 1
        samples.append(
            Sample(
                name=f"{number}.png",
                digest=shelf.grey(60 if bad else 180, number=number),
                labels=("bad" if bad else "good",),
                known=("bad", "good"),
                split=Part.TEST if number >= 16 else Part.TRAIN,
                group=f"g{number // 4}",
            )
        )
    return samples


def report_of(samples: list[Sample], shelf: SourceCache, **facts: object) -> DatasetReport:
    subject = Subject(name="rack", samples=samples, **facts)  # type: ignore[arg-type]  # by name
    return dataset_report(subject, files=shelf)


def test_balance_sizes_and_light_are_counted(shelf: SourceCache) -> None:
    report = report_of(lit_by_label(shelf), shelf)
    assert report.labels == {"bad": {"train": 8, "test": 2}, "good": {"train": 8, "test": 2}}
    assert report.parts == {"train": 16, "test": 4}
    assert report.sizes == ((32, 24, 20),)
    assert (report.groups_in_all, report.unjudged, report.looked_at) == (5, 0, 20)
    assert sum(report.brightness.counts) == 20
    assert 55 < report.brightness_by_label["bad"].median < 65


def test_a_label_that_light_alone_tells_is_warned_of(shelf: SourceCache) -> None:
    report = report_of(lit_by_label(shelf), shelf)
    assert report.brightness_tells == {"bad": 1.0, "good": 1.0}
    assert any("Mean grey alone tells 'bad'" in warning for warning in report.warnings)
    even = [
        replace(s, labels=("bad" if n % 4 < 2 else "good",))
        for n, s in enumerate(lit_by_label(shelf))
    ]
    assert not any("Mean grey" in warning for warning in report_of(even, shelf).warnings)


def test_masks_counts_and_objects_are_summed_up(shelf: SourceCache) -> None:
    mask = np.zeros((24, 32, 3), np.uint8)
    mask[:12] = 255
    drawn = (hole(1, 1, side=4), hole(8, 8, side=9))
    samples = [
        Sample(name="a", digest=shelf.grey(99, number=1), mask_digest=shelf.keep(mask)),
        Sample(name="b", digest=shelf.grey(99, number=2), count=3),
        Sample(name="c", digest=shelf.grey(99, number=3), marked=drawn),
        Sample(name="d", digest=shelf.grey(99, number=4)),
    ]
    report = report_of(samples, shelf)
    assert report.mask_share is not None
    assert (report.masks, report.mask_share.median) == (1, 0.5)
    assert report.counts == ((2, 1), (3, 1))
    assert report.objects == {"hole": 2}
    assert report.object_sizes_px is not None
    assert (report.object_sizes_px.low, report.object_sizes_px.high) == (4.0, 9.0)
    assert report.unjudged == 1


def test_a_damaged_picture_is_named_and_the_rest_is_reported(shelf: SourceCache) -> None:
    samples = lit_by_label(shelf)
    torn = samples[3].digest
    shelf.kept[torn] = shelf.kept[torn][:-40]
    gone = samples[5].digest
    del shelf.kept[gone]
    report = report_of(samples, shelf)
    assert report.looked_at == 18
    assert [line.where for line in report.unreadable] == ["3.png", "5.png"]
    assert "2 pictures cannot be read." in report.warnings


def test_of_many_pictures_some_are_looked_at_and_it_is_said(shelf: SourceCache) -> None:
    samples = [
        Sample(name=f"{n:04d}.png", digest=shelf.grey(100, number=n, size=(8, 8)))
        for n in range(230)
    ]
    report = report_of(samples, shelf, most_looked_at=100)
    assert (report.pictures, report.looked_at) == (230, 100)
    assert b"100 of them" in report_page(report)


def test_a_rare_label_and_a_part_without_one_are_warned_of(shelf: SourceCache) -> None:
    samples = lit_by_label(shelf)
    samples[0] = replace(samples[0], labels=("odd",))
    warnings = report_of(samples, shelf).warnings
    assert "Only 1 pictures show 'odd': its figures will have wide intervals." in warnings
    assert "The part test shows no odd." in warnings


def test_nothing_at_all_is_a_report_too(shelf: SourceCache) -> None:
    report = report_of([], shelf)
    assert (report.pictures, report.warnings) == (0, ())
    assert b"</html>" in report_page(report)


class Page(HTMLParser):
    """What a page refers to, and whether its elements close."""

    VOID = ("meta", "img", "br", "rect", "line")

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.kinds: set[str] = set()
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.kinds.add(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        assert not any(key.startswith("on") for key, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.kinds.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def full(shelf: SourceCache) -> DatasetReport:
    samples = lit_by_label(shelf)
    samples[0] = replace(samples[0], marked=(hole(2, 2, side=5),), count=1)
    samples[1] = replace(samples[1], mask_digest=shelf.keep(np.full((24, 32, 3), 255, np.uint8)))
    leak = Leak(a="0.png", b="17.png", similarity=0.99, splits=("train", "test"))
    leaks = LeakReport(leaks=(leak,), check=LeakCheck(pictures=20, looked_at=12))
    notes = (Skipped(where="x.csv:3", reason="<b>odd</b>"),)
    return report_of(samples, shelf, leaks=leaks, leaks_by="whole pictures", skipped=notes)


def test_the_page_needs_nothing_else_runs_nothing_and_escapes_what_it_shows(
    shelf: SourceCache,
) -> None:
    report = replace(full(shelf), name="<script>alert(1)</script>")
    raw = report_page(report)
    page = Page(raw)
    assert page.open == []
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert page.addresses
    assert not page.kinds & {"script", "link", "iframe", "object", "form"}
    assert b"prefers-color-scheme:dark" in raw
    assert b"&lt;b&gt;odd" in raw


def test_pairs_that_leak_stand_side_by_side_first(shelf: SourceCache) -> None:
    examples = full(shelf).examples
    assert [example.name for example in examples[:2]] == ["0.png", "17.png"]
    assert "similarity 0.990" in examples[0].why


def test_the_same_is_told_as_json(shelf: SourceCache) -> None:
    report = full(shelf)
    told = decode_json(encode(report), where="report")
    assert told["schema"] == "lineside.dataset-report/1"
    assert (told["leaks"][0]["a"], told["labels"]["good"]["train"]) == ("0.png", 8)


def test_a_folder_of_files_is_reported_on(tmp_path: Path, shelf: SourceCache) -> None:
    for name, level in (("good", 180), ("bad", 60)):
        (tmp_path / name).mkdir()
        for number in range(3):
            picture = shelf(shelf.grey(level, number=number + level))
            (tmp_path / name / f"{number}.png").write_bytes(picture)
    (tmp_path / "bad" / "again.png").write_bytes((tmp_path / "bad" / "0.png").read_bytes())
    found = load_source(tmp_path)
    report = dataset_report(subject_of_source("files", found), files=found.read_file)
    assert (report.pictures, report.labels) == (6, {"bad": {"": 3}, "good": {"": 3}})
    assert any("same picture" in line.reason for line in report.skipped)
    assert report.leak_check is not None
    assert report.leak_check.looked_at == 6


def test_boxes_points_and_masks_are_drawn_where_they_are(shelf: SourceCache) -> None:
    plain = np.full((60, 80, 3), 128, np.uint8)
    mask = np.zeros((60, 80, 3), np.uint8)
    mask[40:50, 60:70] = 255
    point = Marked(label="bean", x0_px=60, y0_px=15, x1_px=60, y1_px=15)
    sample = Sample(
        name="a",
        digest=shelf.keep(plain),
        marked=(hole(10, 10, side=20), point),
        mask_digest=shelf.keep(mask),
    )
    drawn = decode_picture(
        drawn_thumbnail(sample, labels=marked_labels([sample]), files=shelf)
    ).astype(int)
    touched = np.abs(drawn - 128).max(axis=2) > 40
    assert touched[8:33, 8:33].any()
    assert touched[8:22, 52:68].any()
    assert touched[38:52, 58:72].any()
    assert not touched[33:58, :50].any()
    assert cv2.countNonZero(touched.astype(np.uint8)) < 600


def test_a_wide_picture_is_drawn_small(shelf: SourceCache) -> None:
    sample = Sample(
        name="a",
        digest=shelf.keep(np.full((300, 900, 3), 90, np.uint8)),
        marked=(hole(600, 150, side=90),),
    )
    assert decode_picture(
        drawn_thumbnail(sample, labels=marked_labels([sample]), files=shelf)
    ).shape == (107, 320, 3)
    shelf.kept[sample.digest] = b"GIF89a"
    with pytest.raises(InvalidError):
        drawn_thumbnail(sample, labels=marked_labels([sample]), files=shelf)
