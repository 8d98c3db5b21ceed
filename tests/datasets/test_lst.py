from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.datasets import Part, load_source
from lineside.datasets.formats import read_lst, write_lst

FILE_NAME = (
    st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), min_size=1)
    .map(str.strip)
    .filter(lambda name: bool(name) and "\n" not in name)
)
COLOURS = ("blue", "red", "white")


def test_labels_are_read_by_column_with_any_number_of_ones() -> None:
    source = read_lst(b"1\t1\t1\t1\tall.jpeg\n2\t0\t0\t0\tnone.jpeg\n", where="t", labels=COLOURS)
    assert [row.labels for row in source.rows] == [COLOURS, ()]
    assert source.rows[1].known == COLOURS


def test_the_last_row_counts_although_the_file_has_no_final_newline() -> None:
    source = read_lst(b"1\t0\t1\t0\ta.jpeg\n2\t1\t0\t0\tb.jpeg", where="t", labels=COLOURS)
    assert [row.file for row in source.rows] == ["a.jpeg", "b.jpeg"]


def test_both_number_forms_carriage_returns_and_a_byte_order_mark_are_read() -> None:
    raw = b"\xef\xbb\xbf1\t1.000000\t0.000000\t0\tblue,red - dark.jpeg\r\n"
    source = read_lst(raw, where="t", labels=COLOURS)
    assert source.rows[0].labels == ("blue",)
    assert source.rows[0].file == "blue,red - dark.jpeg"


def test_a_single_column_is_a_class_number_when_several_labels_are_wanted() -> None:
    source = read_lst(b"7\t2.000000\tx.png\n", where="t", labels=COLOURS)
    assert source.rows[0].labels == ("white",)
    assert source.rows[0].known == COLOURS
    assert read_lst(b"7\t1\tx.png\n", where="t", labels=("blue",)).rows[0].labels == ("blue",)
    assert read_lst(b"7\t0\tx.png\n", where="t", labels=("blue",)).rows[0].labels == ()


def test_without_names_columns_and_classes_are_numbered() -> None:
    assert read_lst(b"1\t4\tx.png", where="t").rows[0].labels == ("class-4",)
    assert read_lst(b"1\t0\t1\tx.png", where="t").rows[0].labels == ("label-1",)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"3\tx.png", "2 columns"),
        (b"3\tone\t0\t0\tx.png", "not a number"),
        (b"3\tnan\t0\t0\tx.png", "not a number"),
        (b"3\tinf\t0\t0\tx.png", "not a number"),
        (b"3\t1_0\t0\t0\tx.png", "not a number"),
        (b"x\t1\t0\t0\tx.png", "not a number"),
        (b"3.5\t1\t0\t0\tx.png", "not a whole number"),
        (b"3\t0.5\t0\t0\tx.png", "neither 0 nor 1"),
        (b"3\t1\t0\tx.png", "2 label columns"),
        (b"3\t5\tx.png", "class '5' is unknown"),
        (b"3\t1\t0\t0\t ", "no file name"),
        (b"3\t1\t0\t0\tx\xff.png", "not UTF-8"),
        (b"1\t1\t0\t0\tother.png", "id 1 stands already at t:1"),
        (b"9\t1\t0\t0\tgood.png", "file 'good.png' stands already at t:1"),
        (b"3 1 0 0 x.png", "1 columns"),
    ],
)
def test_a_bad_line_is_skipped_with_its_number_and_reason(line: bytes, why: str) -> None:
    raw = b"1\t1\t0\t0\tgood.png\n" + line + b"\n5\t0\t0\t1\tlast.png"
    source = read_lst(raw, where="t", labels=COLOURS)
    assert [row.file for row in source.rows] == ["good.png", "last.png"]
    assert source.skipped[0].where == "t:2"
    assert why in source.skipped[0].reason


@given(st.lists(st.tuples(st.tuples(*[st.booleans()] * 3), FILE_NAME), unique_by=lambda r: r[1]))
def test_what_is_written_reads_back(rows: list[tuple[tuple[bool, ...], str]]) -> None:
    written = write_lst(
        [(n, [float(b) for b in bits], name) for n, (bits, name) in enumerate(rows)]
    )
    source = read_lst(written, where="t", labels=COLOURS)
    assert source.skipped == ()
    assert [row.file for row in source.rows] == [name for _, name in rows]
    held = [tuple(c for c, bit in zip(COLOURS, bits, strict=True) if bit) for bits, _ in rows]
    assert [row.labels for row in source.rows] == held


@given(st.binary(max_size=400))
def test_any_bytes_give_rows_or_reasons_never_an_error(raw: bytes) -> None:
    source = read_lst(raw, where="t", labels=COLOURS)
    lines = [line for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(source.rows) + len(source.skipped) == len(lines)


@pytest.mark.parametrize("name", ["a\tb.png", "a\nb.png", " a.png", ""])
def test_a_name_that_a_list_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="cannot stand"):
        write_lst([(1, [0.0], name)])


@pytest.mark.data
def test_the_published_lists_have_their_rows_sums_and_pictures(data_folder: Path) -> None:
    loaded = load_source(data_folder / "smart-factory", labels=COLOURS)
    assert loaded.format == "lst"
    assert loaded.skipped == ()
    for part, rows, each in ((Part.TRAIN, 16, 8), (Part.VALID, 8, 4)):
        samples = [sample for sample in loaded.samples if sample.split is part]
        assert len(samples) == rows
        assert [sum(c in s.labels for s in samples) for c in COLOURS] == [each] * 3
        assert all(sample.known == COLOURS for sample in samples)
    assert loaded.samples[-1].name == "red, white.jpeg"
    assert all(loaded.read(sample)[:3] == b"\xff\xd8\xff" for sample in loaded.samples)
