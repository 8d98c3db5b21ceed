"""Record files are those of the reference, byte for byte, and damage is named where it stands."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError, NotFoundError
from lineside.datasets.recordio import (
    MAGIC,
    MOST_PAYLOAD,
    Damage,
    ImageRecord,
    Record,
    check_records,
    framed,
    index_again,
    index_of,
    iter_records,
    pack_image,
    read_by_id,
    read_index,
    read_records,
    scan,
    unpack_image,
    write_index,
)

# Six payloads as the reference writer frames them: a plain picture, three labels, the magic where
# it is escaped, where it is not, as the whole picture, and twice in a payload without header.
WRITTEN = bytes.fromhex(
    "0a23d7ce 1e000000 00000000 00000040 05000000 00000000 00000000 00000000 ffd8ffe0 aabb0000"
    "0a23d7ce 28000000 03000000 00000000 03000000 00000000 00000000 00000000"
    "0000803f 00000000 0000803f ffd8ffd9"
    "0a23d7ce 1c000020 00000000 00000000 07000000 00000000 00000000 00000000 11223344"
    "0a23d7ce 02000060 55660000"
    "0a23d7ce 20000000 00000000 00000000 08000000 00000000 00000000 00000000 1122330a 23d7ce44"
    "0a23d7ce 18000020 00000000 00000000 00000000 00000000 00000000 00000000 0a23d7ce 00000060"
    "0a23d7ce 00000020 0a23d7ce 00000040 0a23d7ce 01000060 01000000"
)
IMAGES = (
    ImageRecord(id=5, labels=(2.0,), picture=bytes.fromhex("ffd8ffe0aabb")),
    ImageRecord(id=3, labels=(1.0, 0.0, 1.0), picture=bytes.fromhex("ffd8ffd9"), as_vector=True),
    ImageRecord(id=7, labels=(0.0,), picture=bytes.fromhex("112233440a23d7ce5566")),
    ImageRecord(id=8, labels=(0.0,), picture=bytes.fromhex("1122330a23d7ce44")),
    ImageRecord(id=0, labels=(0.0,), picture=MAGIC),
)
RAW = MAGIC + MAGIC + b"\x01"
ENDS = (0, 40, 88, 136, 176, 216)


def payloads() -> list[bytes]:
    return [*(pack_image(image) for image in IMAGES), RAW]


def read(raw: bytes) -> list[Record]:
    return list(read_records(io.BytesIO(raw), where="x.rec"))


def test_the_worked_example_is_written_to_the_byte() -> None:
    assert len(WRITTEN) == 244
    assert b"".join(framed(payload) for payload in payloads()) == WRITTEN


def test_the_worked_example_reads_back() -> None:
    records = read(WRITTEN)
    assert [record.payload for record in records] == payloads()
    assert [record.offset for record in records] == list(ENDS)
    assert [unpack_image(r.payload, where="x") for r in records[:5]] == list(IMAGES)


@pytest.mark.parametrize("length", range(244))
def test_a_cut_anywhere_but_between_records_is_named_with_its_offset(length: int) -> None:
    cut = WRITTEN[:length]
    if length in ENDS:
        assert len(read(cut)) == ENDS.index(length)
        return
    begun = max(end for end in ENDS if end <= length)
    with pytest.raises(InvalidError, match=r"x\.rec: byte") as caught:
        read(cut)
    assert begun <= int(caught.value.where.rpartition(" ")[2]) <= length
    assert caught.value.fix


@pytest.mark.parametrize(
    ("raw", "offset", "why"),
    [
        (bytes.fromhex("0a23d73e") + bytes(4), 0, "where the magic"),
        (MAGIC + (4 << 29).to_bytes(4, "little"), 0, "flag 4"),
        (MAGIC + (3 << 29).to_bytes(4, "little"), 0, "without a first part"),
        (MAGIC + (2 << 29).to_bytes(4, "little"), 0, "without a first part"),
        (2 * (MAGIC + (1 << 29).to_bytes(4, "little")), 8, "has not ended"),
        (MAGIC + (1 << 29).to_bytes(4, "little") + MAGIC + bytes(4), 8, "has not ended"),
        (MAGIC + MOST_PAYLOAD.to_bytes(4, "little") + b"abc", 0, "bytes of payload"),
    ],
)
def test_what_is_no_record_is_said(raw: bytes, offset: int, why: str) -> None:
    with pytest.raises(InvalidError, match=why) as caught:
        read(raw)
    assert caught.value.where == f"x.rec: byte {offset}"


def test_after_damage_reading_goes_on_at_the_next_record() -> None:
    broken = bytearray(WRITTEN)
    broken[0] = 0  # the first record's magic
    broken[92] = 0xFF  # the third record's length
    found = list(scan(io.BytesIO(bytes(broken))))
    assert [(type(one), one.offset) for one in found] == [
        (Damage, 0),
        (Record, 40),
        (Damage, 88),
        (Record, 136),
        (Record, 176),
        (Record, 216),
    ]


def test_a_payload_of_half_a_gigabyte_is_refused() -> None:
    class Long(bytes):
        def __len__(self) -> int:
            return MOST_PAYLOAD + 1

    with pytest.raises(InvalidError, match="at most"):
        framed(Long())


@given(st.lists(st.lists(st.sampled_from([MAGIC, b"\0", b"\xce", b"abcd", b"x"])).map(b"".join)))
def test_what_is_framed_reads_back(written: list[bytes]) -> None:
    file = b"".join(framed(payload) for payload in written)
    assert len(file) % 4 == 0
    assert [record.payload for record in read(file)] == written


@given(st.data())
def test_mutated_bytes_give_records_or_damage_never_an_error(data: st.DataObject) -> None:
    broken = bytearray(WRITTEN)
    for place in data.draw(st.lists(st.integers(0, 243), min_size=1, max_size=6)):
        broken[place] = data.draw(st.integers(0, 255))
    found = list(scan(io.BytesIO(bytes(broken))))
    offsets = [one.offset for one in found if isinstance(one, Record)]
    assert offsets == sorted(set(offsets))
    for one in found:
        if isinstance(one, Record):
            try:
                unpack_image(one.payload, where="x")
            except InvalidError as error:
                assert error.fix  # noqa: PT017  either outcome is right


def test_a_list_of_one_label_stands_behind_the_header() -> None:
    one = ImageRecord(id=1, labels=(4.0,), picture=b"p", as_vector=True)
    assert pack_image(one)[:4] == b"\x01\0\0\0"
    assert unpack_image(pack_image(one), where="x") == one
    with pytest.raises(InvalidError, match="without a label"):
        pack_image(ImageRecord(id=1, labels=(), picture=b"p"))


@pytest.mark.parametrize("payload", [b"short", (9).to_bytes(4, "little") + bytes(24)])
def test_a_payload_shorter_than_its_header_is_no_picture(payload: bytes) -> None:
    with pytest.raises(InvalidError):
        unpack_image(payload, where="x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "x.rec"
    made.write_bytes(WRITTEN[:216])
    return made


def test_an_index_in_any_order_gives_the_record_of_each_id(path: Path) -> None:
    pairs = [(image.id, offset) for image, offset in zip(IMAGES, ENDS, strict=False)]
    assert write_index(pairs) == b"5\t0\n3\t40\n7\t88\n8\t136\n0\t176\n"
    assert index_of(path) == dict(pairs)
    path.with_suffix(".idx").write_bytes(write_index(reversed(pairs)))
    offsets = index_of(path)
    for image in IMAGES:
        assert read_by_id(path, image.id, offsets=offsets) == image
    with pytest.raises(NotFoundError):
        read_by_id(path, 99, offsets=offsets)
    with pytest.raises(InvalidError, match="id 5 where the index says 3"):
        read_by_id(path, 3, offsets={3: 0})
    with pytest.raises(InvalidError, match="byte 44"):
        read_by_id(path, 3, offsets={3: 44})


@pytest.mark.parametrize("raw", [b"5\t0\n5\t40\n", b"x\t0\n", b"5 0\n", b"5\t-1\n", b"5\t0\n\n"])
def test_an_index_that_is_wrong_names_its_line(raw: bytes) -> None:
    with pytest.raises(InvalidError, match="line of an index"):
        read_index(raw, where="x.idx")
    assert read_index(b"", where="x.idx") == {}


def test_a_payload_that_is_no_picture_is_passed_over_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    path.write_bytes(WRITTEN)
    assert index_of(path) == {5: 0, 3: 40, 7: 88, 8: 136, 0: 176}
    found = list(iter_records(path))
    assert [record.payload for record, _ in found] == payloads()
    assert [image for _, image in found] == [*IMAGES, None]
    checked = check_records(path)
    assert (checked.records, checked.pictures, checked.offset) == (6, 5, 244)
    ((record, image),) = iter_records(path, only=8)
    assert (record.offset, image) == (136, IMAGES[3])


def test_a_file_is_checked_through_behind_its_damage(path: Path) -> None:
    (path.parent / "x_classes.txt").write_text("empty\nblue\nred\n")
    path.with_suffix(".idx").write_bytes(b"5\t0\n3\t44\n7\t88\n8\t136\n")
    raw = bytearray(path.read_bytes())
    raw[88] = 0
    path.write_bytes(bytes(raw))
    found = check_records(path)
    assert (found.records, found.pictures, found.offset) == (4, 4, 88)
    assert found.labels == {"empty": 3, "red": 2}
    assert [one.offset for one in found.damage] == [88]
    assert found.faults == (
        "id 0: the index says None, it stands at 176",
        "id 3: the index says 44, it stands at 40",
        "id 7: the index says 88, it stands at None",
    )
    with pytest.raises(InvalidError, match="byte 88"):
        index_again(path)
    path.with_suffix(".idx").write_bytes(b"none")
    assert "no line of an index" in check_records(path).faults[0]


def test_an_index_is_made_from_the_file(path: Path) -> None:
    assert index_again(path) == 5
    assert path.with_suffix(".idx").read_bytes() == b"5\t0\n3\t40\n7\t88\n8\t136\n0\t176\n"
    assert check_records(path).faults == ()
    for read in (check_records, index_again):
        with pytest.raises(NotFoundError):
            read(path.with_name("none.rec"))
