from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import Digest, InvalidError
from lineside.datasets import Part, Sample
from lineside.datasets.splitting import folds, grouped, natural_key, split

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


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {Part.TRAIN: -1.0},
        {Part.TRAIN: 0.0},
        {Part.OPEN: 1.0},
        {"tarin": 1.0},
        {Part.TRAIN: float("nan")},
        {Part.TRAIN: float("inf")},
    ],
    ids=str,
)
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


SHARES = {Part.TRAIN: 0.8, Part.VALID: 0.1, Part.TEST: 0.1}


@given(
    st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=120),
    st.integers(0, 3),
)
def test_single_samples_are_spread_by_label_within_one_of_the_shares(
    labels: list[str], seed: int
) -> None:
    given_ = [
        Sample(name=f"{n}", digest=Digest(f"sha256:{n:064x}"), labels=(label,))
        for n, label in enumerate(labels)
    ]
    parts = split(given_, seed=seed, shares=SHARES)
    filled = 1 if len(given_) >= len(SHARES) else 0  # a part that would stay empty takes one
    for label in set(labels):
        for part, share in SHARES.items():
            held = sum(label in sample.labels for sample in parts.get(part, ()))
            assert abs(held - share * labels.count(label)) < 1 + 2 * filled
    for part, share in SHARES.items():
        assert abs(len(parts.get(part, ())) - share * len(given_)) <= 2 + 2 * filled


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc")), min_size=20, max_size=60),
    st.integers(0, 3),
)
@settings(max_examples=50)
def test_groups_are_spread_within_the_largest_group_of_the_shares(
    groups: list[tuple[int, str]], seed: int
) -> None:
    given_ = [
        Sample(
            name=f"{place}-{n}",
            digest=Digest(f"sha256:{100 * place + n:064x}"),
            group=f"g{place}",
            labels=(label,),
        )
        for place, (size, label) in enumerate(groups)
        for n in range(size)
    ]
    parts = split(given_, seed=seed, shares=SHARES)
    largest = max(size for size, _ in groups)
    for part, share in SHARES.items():
        members = parts.get(part, ())
        assert abs(len(members) - share * len(given_)) <= 2 * largest
        assert not {s.group for s in members} & {
            s.group for other, held in parts.items() if other is not part for s in held
        }


def test_a_rare_label_reaches_every_part_where_a_plain_split_may_lose_it(sample: Make) -> None:
    given_ = [sample(n, labels=("rare",) if n < 10 else ("usual",)) for n in range(400)]
    for seed in range(10):
        parts = split(given_, seed=seed, shares=SHARES)
        held = [sum("rare" in s.labels for s in parts[part]) for part in SHARES]
        assert held == [8, 1, 1]


def test_without_labels_counts_are_spread(sample: Make) -> None:
    given_ = [sample(n, count=0 if n < 50 else n % 40) for n in range(200)]
    parts = split(given_, shares=SHARES)
    means = [sum(s.count or 0 for s in parts[part]) / len(parts[part]) for part in SHARES]
    assert max(means) - min(means) < 4
    none = sum(s.count == 0 for s in given_)
    for part, share in SHARES.items():
        assert abs(sum(s.count == 0 for s in parts[part]) - share * none) < 1


def test_masks_are_spread_beside_labels(sample: Make) -> None:
    mask = Digest("sha256:" + "f" * 64)
    given_ = [
        sample(n, labels=("bad",), mask_digest=mask if n % 4 == 0 else None) for n in range(200)
    ]
    parts = split(given_, shares=SHARES)
    assert [sum(s.mask_digest is not None for s in parts[part]) for part in SHARES] == [40, 5, 5]


@pytest.mark.parametrize(
    ("rule", "group"),
    [
        ("ids:100", "ids 500"),
        ("time:30", "from 2026-11-20 13:30"),
        ("time:480@06:00", "from 2026-11-20 06:00"),
        ("column:shift", "early"),
        ("column:none", "(none)"),
        ("column", "own"),
    ],
)
def test_a_rule_reads_numbers_times_and_columns(*, sample: Make, rule: str, group: str) -> None:
    taken = datetime(2026, 11, 20, 13, 45, tzinfo=UTC)
    one = replace(
        sample(1, group="own", captured_at=taken, facts={"shift": "early"}),
        name="bins/00523.jpg",
    )
    assert [s.group for s in grouped([one], rule=rule)] == [group]


def test_what_a_rule_finds_nothing_in_shares_a_group(sample: Make) -> None:
    bare = replace(sample(1), name="bins/x.jpg")
    for rule in ("ids:100", "time:30", "column:shift"):
        assert [s.group for s in grouped([bare], rule=rule)] == ["(none)"]


@pytest.mark.parametrize("rule", ["time:30@25:00", "time:0", "ids:-1", "column:"])
def test_a_block_that_is_none_is_refused(rule: str) -> None:
    with pytest.raises(InvalidError) as caught:
        grouped([], rule=rule)
    assert caught.value.fix


def test_a_sample_put_elsewhere_keeps_everything_else(sample: Make) -> None:
    mask = Digest("sha256:" + "a" * 64)
    full = Sample(
        name="a",
        digest=mask,
        labels=("x",),
        known=("y",),
        group="g",
        split=Part.TEST,
        captured_at=datetime(2026, 1, 1, tzinfo=UTC),
        author="ann",
        mask="m",
        count=3,
        mask_digest=mask,
        template_digest=mask,
        marked=(),
        facts={"a": "b"},
    )
    assert all(getattr(full, field.name) != field.default for field in fields(full))
    assert full.assigned() == full
    assert full.assigned(group="h") == replace(full, group="h")
    assert full.assigned(split=Part.OPEN, group="") == replace(full, split=Part.OPEN, group="")
    assert sample(1).assigned(group="g").group == "g"
