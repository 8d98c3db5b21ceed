import csv
from pathlib import Path

import pytest
from sklearn.model_selection import train_test_split

from lineside.core import Digest, InvalidError
from lineside.datasets import Part, Sample
from lineside.datasets.leaks import check_leaks, parts_of
from lineside.datasets.splitting import grouped, split, split_exactly


def numbered(count: int) -> list[Sample]:
    return [Sample(name=f"{n:05d}.jpg", digest=Digest(f"sha256:{n:064x}")) for n in range(count)]


def ids(samples: tuple[Sample, ...]) -> list[int]:
    return [int(sample.name[:-4]) for sample in samples]


def test_list_gives_the_golden_order_of_681() -> None:
    parts = split_exactly(numbered(681), rule="list")
    train, valid = ids(parts[Part.TRAIN]), ids(parts[Part.VALID])
    assert (len(train), len(valid), Part.TEST in parts) == (544, 137, False)
    assert train[:12] == [110, 660, 13, 387, 158, 627, 270, 107, 91, 27, 363, 632]
    assert valid[:6] + valid[-3:] == [213, 148, 427, 559, 198, 536, 465, 470, 149]


def test_list_gives_the_golden_order_of_18() -> None:
    parts = split_exactly(numbered(18), rule="list")
    assert ids(parts[Part.TRAIN]) == [13, 9, 7, 3, 10, 0, 17, 1, 8, 15, 5, 6, 11, 2]
    assert ids(parts[Part.VALID]) == [12, 16, 14, 4]


def test_list_takes_the_test_part_first() -> None:
    shares = {Part.TRAIN: 0.5, Part.VALID: 0.3, Part.TEST: 0.2}
    parts = split_exactly(numbered(18), rule="list", shares=shares)
    assert ids(parts[Part.TEST]) == [13, 9, 7]
    assert [len(parts[p]) for p in (Part.TRAIN, Part.VALID)] == [9, 6]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(10, (8, 1, 1)), (16, (14, 1, 1)), (2332, (1866, 233, 233)), (3336, (2670, 333, 333))],
)
def test_draws_have_their_sizes(count: int, sizes: tuple[int, ...]) -> None:
    parts = split_exactly(numbered(count), rule="draws")
    assert tuple(len(parts[p]) for p in (Part.TRAIN, Part.VALID, Part.TEST)) == sizes


def test_draws_are_those_of_the_library_they_are_named_after() -> None:
    rest, valid = train_test_split(list(range(120)), test_size=12, random_state=42)
    train, test = train_test_split(rest, test_size=12, random_state=42)
    parts = split_exactly(numbered(120), rule="draws")
    assert [ids(parts[p]) for p in (Part.TRAIN, Part.VALID, Part.TEST)] == [train, valid, test]


def test_cuts_have_their_sizes() -> None:
    parts = split_exactly(numbered(45113), rule="cuts")
    assert [len(parts[p]) for p in (Part.TRAIN, Part.VALID, Part.TEST)] == [36091, 4511, 4511]


@pytest.mark.data
def test_cuts_are_the_published_ones_row_by_row(data_folder: Path) -> None:
    folder = data_folder / "bin-counter" / "splits"

    def read(name: str) -> list[int]:
        with (folder / name).open(newline="") as lines:
            return [int(row["id"]) for row in csv.DictReader(lines)]

    given = [
        Sample(name=f"{n:05d}.jpg", digest=Digest(f"sha256:{n:064x}"))
        for n in read("image_ids_sel_wcount_wlabel.csv")
    ]
    parts = split_exactly(given, rule="cuts")
    for part, name in ((Part.TRAIN, "train"), (Part.VALID, "validation"), (Part.TEST, "test")):
        assert ids(parts[part]) == read(f"{name}.csv")
    train = set(read("train.csv"))
    beside = [n for n in read("test.csv") if {n - 1, n + 1} & train]
    assert len(beside) == 720  # the same shelf a moment before or after: why blocks exist
    shares = {Part.TRAIN: 0.8, Part.VALID: 0.1, Part.TEST: 0.1}
    blocks = grouped(given, rule="ids:100")
    apart = split(blocks, shares=shares)
    assert [len(apart[part]) for part in shares] == [36091, 4511, 4511]
    across = [
        check_leaks(s, {}, parts=parts_of(s, p)).check for s, p in ((given, parts), (blocks, apart))
    ]
    assert [(c.neighbours, c.neighbours_across) for c in across] == [(4502, 1517), (4502, 14)]


@pytest.mark.parametrize("rule", ["cuts", "draws", "list"])
@pytest.mark.parametrize("count", range(6))
def test_few_pictures_are_each_placed_once(rule: str, count: int) -> None:
    parts = split_exactly(numbered(count), rule=rule)
    placed = [number for part in parts.values() for number in ids(part)]
    assert sorted(placed) == list(range(count))


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidError, match="no exact split"):
        split_exactly([], rule="odd")
