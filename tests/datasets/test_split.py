from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Digest, InvalidError
from lineside.datasets import Part, Sample, folds, grouped, natural_key, split

Make = Callable[..., Sample]


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    groups = draw(st.lists(st.sampled_from(["", "a", "b", "c", "d", "e", "f"]), max_size=40))
    return [
        Sample(
            name=f"{n}.png", digest=Digest(f"sha256:{n:064x}"), group=group, labels=(f"l{n % 3}",)
        )
        for n, group in enumerate(groups)
    ]


@given(samples(), st.integers(0, 5))
def test_parts_are_disjoint_complete_and_never_cut_a_group(given_: list[Sample], seed: int) -> None:
    parts = split(given_, seed=seed)
    members = [sample.digest for part in parts.values() for sample in part]
    assert sorted(members) == sorted(sample.digest for sample in given_)
    for group in {sample.group for sample in given_} - {""}:
        holding = [p for p, part in parts.items() if any(s.group == group for s in part)]
        assert len(holding) == 1


@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_samples_changes_nothing(given_: list[Sample], random: object) -> None:
    shuffled = list(given_)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis hands in a Random
    one, other = split(given_), split(shuffled)
    assert {p: {s.digest for s in m} for p, m in one.items()} == {
        p: {s.digest for s in m} for p, m in other.items()
    }


def test_placed_by_hash_alone_adding_samples_moves_none_of_the_old_ones(sample: Make) -> None:
    old = [sample(n) for n in range(60)]
    before = split(old, stratified=False)
    after = split([*old, *(sample(n) for n in range(60, 90))], stratified=False)
    for part, members in before.items():
        assert {s.digest for s in members} <= {s.digest for s in after[part]}


def test_no_part_is_empty_where_there_are_enough_groups(sample: Make) -> None:
    for seed in range(30):
        parts = split(
            [sample(n) for n in range(3)],
            seed=seed,
            shares={Part.TRAIN: 0.8, Part.VALID: 0.1, Part.TEST: 0.1},
        )
        assert set(parts) == {Part.TRAIN, Part.VALID, Part.TEST}


def test_another_seed_gives_another_split(sample: Make) -> None:
    many = [sample(n) for n in range(50)]
    assert split(many, seed=1) != split(many, seed=2)


def test_a_declared_part_is_honoured_and_draws_its_group_along(sample: Make) -> None:
    parts = split(
        [sample(1, split="test", group="a"), sample(2, group="a"), sample(3, split="train")]
    )
    assert [s.name for s in parts[Part.TEST]] == ["p1.png", "p2.png"]
    assert [s.name for s in parts[Part.TRAIN]] == ["p3.png"]


@pytest.mark.parametrize("shares", [{}, {Part.TRAIN: -1.0}, {Part.TRAIN: 0.0}, {Part.OPEN: 1.0}])
def test_shares_that_say_nothing_are_refused(shares: dict[Part, float]) -> None:
    with pytest.raises(InvalidError, match="shares"):
        split([], shares=shares)


def test_groups_are_left_out_one_by_one(sample: Make) -> None:
    given_ = [sample(n, group="dark" if n % 2 else "light") for n in range(8)]
    assert folds(given_) == (1, 0, 1, 0, 1, 0, 1, 0)


@given(samples(), st.integers(2, 5))
@settings(max_examples=50)
def test_folds_keep_groups_together_and_are_all_used(given_: list[Sample], count: int) -> None:
    numbers = folds(given_, count=count)
    for group in {sample.group for sample in given_} - {""}:
        assert len({n for n, s in zip(numbers, given_, strict=True) if s.group == group}) == 1
    units = len({s.group or s.digest for s in given_})
    assert len(set(numbers)) == min(units, max(set(numbers), default=-1) + 1)


def test_labels_are_spread_over_folds(sample: Make) -> None:
    given_ = [sample(n, labels=("rare",) if n < 4 else ()) for n in range(40)]
    numbers = folds(given_, count=4)
    assert sorted(numbers[:4]) == [0, 1, 2, 3]
    assert {numbers.count(fold) for fold in range(4)} == {10}


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("", ["", "", "", ""]),
        ("suffix: - ", ["dark", "light", "(none)", "dark"]),
        (r"regex:(\d+)", ["10", "2", "1", "10"]),
        ("regex:dark|light", ["dark", "light", "(none)", "dark"]),
        ("folder", ["(none)", "(none)", "x", "(none)"]),
        ("blocks:2", ["block 0", "block 0", "block 1", "block 1"]),
    ],
)
def test_a_rule_gives_groups(rule: str, groups: list[str]) -> None:
    names = ["p10 - dark.png", "p2 - light.png", "x/1.png", "p10, a - b - dark.png"]
    given_ = [Sample(name=name, digest=Digest(f"sha256:{n:064x}")) for n, name in enumerate(names)]
    assert [s.group for s in grouped(given_, rule=rule)] == groups


@pytest.mark.parametrize("rule", ["blocks:0", "blocks:x", "suffix:", "regex:(", "odd", "regex:"])
def test_a_rule_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(InvalidError) as caught:
        grouped([], rule=rule)
    assert caught.value.fix


def test_digits_are_sorted_as_numbers() -> None:
    assert sorted(["p10", "p9", "a", "1"], key=natural_key) == ["1", "a", "p9", "p10"]
