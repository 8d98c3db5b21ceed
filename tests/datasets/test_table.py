from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.datasets import Part, load_source
from lineside.datasets.formats import read_table

CORNERS = ("top_left", "top_right", "bottom_left", "bottom_right")


def test_every_known_column_is_read() -> None:
    raw = (
        b"file,label,mask,count,group,split,captured_at\n"
        b"a.png,dent;scratch,m/a.png,3,tile 7,validation,2023-05-15T12:41:07Z\n"
    )
    row = read_table(raw, where="t").rows[0]
    assert row.labels == ("dent", "scratch")
    assert (row.mask, row.count, row.group, row.split) == ("m/a.png", 3, "tile 7", Part.VALID)
    assert row.captured_at == datetime(2023, 5, 15, 12, 41, 7, tzinfo=UTC)


def test_an_empty_label_judges_all_wanted_labels_and_holds_none() -> None:
    row = read_table(b"file,label\na.png,\n", where="t", labels=("dent", "scratch")).rows[0]
    assert (row.labels, row.known) == ((), ("dent", "scratch"))


def test_without_a_label_column_nothing_is_judged() -> None:
    row = read_table(b"file\na.png\n", where="t", labels=("dent",)).rows[0]
    assert (row.labels, row.known) == ((), ())


def test_a_column_known_says_what_was_judged() -> None:
    raw = b"file,label,known\na.png,dent,dent; good\nb.png,,good\nc.png,,\n"
    rows = read_table(raw, where="t").rows
    assert [row.known for row in rows] == [("dent", "good"), ("good",), ()]
    assert [dict(row.facts) for row in rows] == [{}, {}, {}]
    wanted = read_table(raw, where="t", labels=("dent", "rust")).rows
    assert [row.known for row in wanted] == [("dent",), (), ()]


def test_a_column_known_that_leaves_out_a_label_is_a_fact() -> None:
    row = read_table(b"file,label,known\na.png,dent,yes\n", where="t").rows[0]
    assert (row.known, dict(row.facts)) == ((), {"known": "yes"})


def test_columns_named_like_wanted_labels_are_their_truth() -> None:
    raw = b"file,label,left,right\na.png,missing,1,0\nb.png,complete,,1.0\n"
    first, second = read_table(raw, where="t", labels=("left", "right")).rows
    assert (first.labels, first.known) == (("left",), ("left", "right"))
    assert (second.labels, second.known) == (("right",), ("right",))


def test_a_column_that_holds_more_than_0_and_1_is_reported_and_not_read_as_a_label() -> None:
    source = read_table(b"file,left\na.png,1\nb.png,2\n", where="t", labels=("left",))
    assert [row.known for row in source.rows] == [(), ()]
    assert "t:3" in source.skipped[0].reason


def test_columns_and_the_label_column_complete_each_other() -> None:
    raw = b"file,label,left\na.png,dent,1\n"
    row = read_table(raw, where="t", labels=("left", "dent", "scratch")).rows[0]
    assert row.labels == ("dent", "left")
    assert row.known == ("dent", "left", "scratch")


def test_a_class_of_a_region_judges_its_siblings() -> None:
    wanted = ("A1/empty", "A1/blue", "B1/empty", "B1/blue")
    row = read_table(b"file,label\na.png,A1/blue\n", where="t", labels=wanted).rows[0]
    assert row.known == ("A1/blue", "A1/empty")


def test_a_bare_class_is_taken_where_only_one_region_has_it() -> None:
    raw = b"file,label\na.png,blue\n"
    row = read_table(raw, where="t", labels=("A1/empty", "A1/blue")).rows[0]
    assert row.labels == ("A1/blue",)
    several = read_table(raw, where="t", labels=("A1/blue", "A1/empty", "B1/blue", "B1/empty"))
    assert "is a class of 2 regions" in several.skipped[0].reason


def test_two_classes_of_one_region_are_refused_for_that_row() -> None:
    raw = b"file,label\na.png,A1/blue;A1/red\n"
    source = read_table(raw, where="t", labels=("A1/blue", "A1/red"))
    assert source.rows == ()
    assert "cannot be A1/blue and A1/red at once" in source.skipped[0].reason


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"b.png,scuff,,,", "label 'scuff' is unknown. Known: dent, scratch."),
        (b"b.png,dent,three,,", "not a number"),
        (b"b.png,dent,-1,,", "not a whole number"),
        (b"b.png,dent,,tomorrow,", "not a split"),
        (b"b.png,dent,,,yesterday", "not a time"),
        (b"b.png,dent", "2 cells, the header has 5"),
        (b",dent,,,", "no file name"),
    ],
)
def test_a_bad_row_is_skipped_with_its_line_and_reason(line: bytes, why: str) -> None:
    raw = b"file,label,count,split,captured_at\na.png,dent,1,train,\n" + line + b"\n"
    source = read_table(raw, where="t", labels=("dent", "scratch"))
    assert [row.file for row in source.rows] == ["a.png"]
    assert source.skipped[0].where == "t:3"
    assert why in source.skipped[0].reason


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "the columns are missing"),
        (b"picture,label\n", "one of them is file"),
        (b"file,file\n", "each column once"),
        (b"file,label\n\xff\xfe,dent\n", "not UTF-8"),
        (b'file,label\n"a.png,dent\n', "not CSV"),
    ],
)
def test_a_table_without_usable_form_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidError) as caught:
        read_table(raw, where="t")
    assert why in str(caught.value)


def test_quoted_cells_may_hold_commas_and_line_ends() -> None:
    raw = b'file,label\n"a, b.png","dent"\n"c\nd.png",scratch\ne.png,oops,1\n'
    source = read_table(raw, where="t")
    assert [row.file for row in source.rows] == ["a, b.png", "c\nd.png"]
    assert source.skipped[0].where == "t:5"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(InvalidError):
        read_table(b"file,label\n" + raw, where="t", labels=("dent",))


@pytest.mark.data
def test_screw_positions_are_read_from_their_columns(data_folder: Path) -> None:
    loaded = load_source(data_folder / "screw-presence", labels=CORNERS)
    assert loaded.format == "csv"
    assert len(loaded.samples) == 97
    assert all(sample.known == tuple(sorted(CORNERS)) for sample in loaded.samples)
    assert sum(len(sample.labels) == 4 for sample in loaded.samples) == 25


@pytest.mark.data
def test_tables_with_masks_groups_and_splits_are_read(data_folder: Path) -> None:
    tiles = load_source(data_folder / "magnetic-tile")
    assert len({sample.group for sample in tiles.samples}) == 274
    screws = load_source(data_folder / "mvtec-screw")
    assert {sample.split for sample in screws.samples} == {Part.TRAIN, Part.TEST}
