"""The steps of rules: the worked examples of docs/reference/rules.md, and the contract of steps."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Rule
from lineside.core.plant_rules import Scalar, WindowStep
from lineside.streams.rules.contract import Output
from lineside.streams.rules.steps import make_step
from lineside.streams.rules.steps.window import AlignedWindows
from lineside.testing.rules import Handed, StepContract, record, rule_of, since_start_s

HEAD = 'id = "r"\nread = { topic = "a" }\n'


def handed(
    *at_s: float, key: tuple[Scalar, ...] = (), fields: Mapping[str, Scalar] | None = None
) -> list[Handed]:
    return [(record(at, fields), key) for at in at_s]


def told(rule: Rule, given: Sequence[Handed], *, end_s: float = 1000.0) -> list[Output]:
    step, found = make_step(rule), list[Output]()
    for one, key in given:
        found += [*step.advance(one.at_us), *step.feed(one, key=key)]
    return [*found, *step.advance(record(end_s).at_us)]


def spans(outputs: list[Output]) -> list[tuple[float, float]]:
    return [(since_start_s(one.start_us), since_start_s(one.end_us)) for one in outputs]


# ---- windows


def test_tumbling_windows_are_aligned_and_an_end_belongs_to_the_next() -> None:
    found = told(rule_of(HEAD + "window = { size_s = 5 }"), handed(0.0, 4.999999, 5.0, 12.0))
    assert spans(found) == [(0, 5), (5, 10), (10, 15)]
    assert [one.values["count"] for one in found] == [2, 1, 1]


def test_hopping_windows_hold_a_record_as_often_as_they_overlap() -> None:
    rule = rule_of(HEAD + 'window = { kind = "hopping", size_s = 10, every_s = 5 }')
    found = told(rule, handed(6.0, 11.0))
    assert spans(found) == [(0, 10), (5, 15), (10, 20)]
    assert [one.values["count"] for one in found] == [1, 2, 1]


def test_a_session_joins_at_exactly_the_gap() -> None:
    rule = rule_of(HEAD + 'window = { kind = "session", gap_s = 2 }')
    found = told(rule, handed(1.0, 2.0, 4.0, 7.0))
    assert spans(found) == [(1, 4), (7, 7)]
    assert [one.values["count"] for one in found] == [3, 1]


def test_in_changes_a_late_record_joins_two_sessions() -> None:
    rule = rule_of(HEAD + 'emit = "changes"\nwindow = { kind = "session", gap_s = 2 }')
    step = make_step(rule)
    for at in (1.0, 5.0):
        step.feed(record(at), key=())
    (joined,) = step.feed(record(3.0), key=())
    assert (spans([joined]), joined.values["count"]) == ([(1, 5)], 3)


def test_every_figure_of_a_window() -> None:
    kinds = ("mean", "min", "max", "sum", "distinct", "first", "last")
    figures = "\n".join(
        f'[[aggregate]]\nname = "{kind}_v"\nof = "{kind}"\nfield = "v"' for kind in kinds
    )
    share = '\n[[aggregate]]\nname = "high"\nof = "share"\nwhere = [{ field = "v", above = 3 }]'
    many = '\n[[aggregate]]\nname = "highs"\nof = "count"\nwhere = [{ field = "v", above = 3 }]'
    rule = rule_of(HEAD + "window = { size_s = 5 }\n" + figures + share + many)
    values: list[Scalar] = [4, 2.0, 2, "x", True]
    given = [(record(at, {"v": value}), ()) for at, value in enumerate(values)]
    (one,) = told(rule, given)
    assert one.values == {
        "count": 5, "mean_v": 8 / 3, "min_v": 2.0, "max_v": 4, "sum_v": 8.0, "distinct_v": 4,
        "first_v": 4, "last_v": True, "high": 0.2, "highs": 1,
    }  # fmt: skip


def test_a_figure_that_no_record_counts_for_is_left_out() -> None:
    figures = '[[aggregate]]\nname = "m"\nof = "mean"\nfield = "v"'
    (one,) = told(
        rule_of(HEAD + "window = { size_s = 5 }\n" + figures), handed(1.0, fields={"v": "text"})
    )
    assert one.values == {"count": 1}


def test_too_many_windows_are_told_early_and_counted() -> None:
    rule = rule_of(HEAD + 'key = ["k"]\nmost_keys = 2\nwindow = { size_s = 100 }')
    step = make_step(rule)
    found: list[Output] = []
    for at, key in enumerate("abac"):
        found += step.feed(record(float(at)), key=(key,))
    assert [(one.key, one.values) for one in found] == [({"k": "b"}, {"count": 1, "evicted": True})]
    assert getattr(step, "evicted", None) == 1


@pytest.mark.parametrize(
    "text",
    [
        "window = { size_s = 1 }", 'emit = "changes"\nwindow = { size_s = 1 }',
        'window = { kind = "hopping", size_s = 2, every_s = 0.5 }',
    ],
)  # fmt: skip
def test_many_records_at_once_are_as_one_after_the_other(text: str) -> None:
    rule = rule_of(HEAD + 'key = ["k"]\nmost_keys = 3\n' + text)
    given = [(record(0.21 * at), ("abcd"[at * at % 4],)) for at in range(60)]
    many, step = AlignedWindows(rule, rule.window or WindowStep()), make_step(rule)
    found = [one for at in range(0, 60, 7) for one in many.feed_many(given[at : at + 7])]
    alone = [
        output
        for one, key in given
        for output in (*step.advance(one.at_us), *step.feed(one, key=key))
    ]
    assert found == alone
    assert many.dump() == step.dump()


# ---- sequences

SEQUENCE = (
    HEAD + '[sequence]\nwithin_s = 5\nfirst = [{ field = "is", equals = "A" }]\n'
    'then = [{ field = "is", equals = "B" }]\n'
)


def test_b_answers_those_a_that_wait_no_longer_than_allowed() -> None:
    given = [*handed(0.0, 3.0, fields={"is": "A"}), *handed(6.0, fields={"is": "B"})]
    (one,) = told(rule_of(SEQUENCE), given)
    assert spans([one]) == [(3, 6)]
    assert one.values == {"after_s": 3.0, "waiting": 1}


def test_exactly_so_long_is_still_in_time() -> None:
    given = [*handed(0.0, fields={"is": "A"}), *handed(5.0, fields={"is": "B"})]
    assert spans(told(rule_of(SEQUENCE), given)) == [(0, 5)]
    late = [*handed(0.0, fields={"is": "A"}), *handed(5.000001, fields={"is": "B"})]
    assert told(rule_of(SEQUENCE), late) == []


def test_a_missing_b_is_told_for_each_a_at_the_end_of_its_time() -> None:
    given = [*handed(0.0, 3.0, fields={"is": "A"}), *handed(6.0, fields={"is": "B"})]
    found = told(rule_of(SEQUENCE + "missing = true"), given)
    assert spans(found) == [(0, 5)]


def test_keys_do_not_answer_for_one_another() -> None:
    given = [
        *handed(0.0, key=("x",), fields={"is": "A"}),
        *handed(1.0, key=("y",), fields={"is": "B"}),
    ]
    assert told(rule_of('key = ["k"]\n' + SEQUENCE), given) == []


# ---- pairs


def test_every_second_record_makes_a_pair() -> None:
    found = told(rule_of(HEAD + "pair = {}"), handed(0.0, 10.0, 20.0))
    assert spans(found) == [(0, 10)]
    assert found[0].values == {"seen": 2, "pairs": 1, "left_over": 0, "pair_seen": "Pair"}


def test_a_partner_that_comes_too_late_is_no_partner() -> None:
    found = told(rule_of(HEAD + "pair = { within_s = 5 }"), handed(0.0, 10.0, 20.0))
    assert [one.values["pair_seen"] for one in found] == ["Un-matched"] * 3
    assert [one.values["left_over"] for one in found] == [1, 2, 3]


def test_a_session_tells_what_is_left_over_and_counts_anew() -> None:
    rule = rule_of(HEAD + 'pair = { session = "s" }')
    step = make_step(rule)
    begin = record(3.0, {"session": "Monday"}).__class__(
        id="s1", source="session", at_us=record(3.0).at_us, arrived_us=0,
        fields={"session": "Monday"},
    )  # fmt: skip
    found = [*step.feed(record(0.0), key=()), *step.feed(begin, key=())]
    assert [one.values["pair_seen"] for one in found] == ["Un-matched"]
    for at in (4.0, 5.0):
        found += step.feed(record(at), key=())
    assert found[-1].values == {
        "seen": 2, "pairs": 1, "left_over": 0, "pair_seen": "Pair", "session": "Monday",
    }  # fmt: skip


# ---- rates


def test_too_many_begin_with_a_record_and_end_when_enough_have_left() -> None:
    rule = rule_of(HEAD + "rate = { per_s = 10, above = 2 }")
    found = told(rule, handed(0.0, 4.0, 8.0))
    assert [(one.action, since_start_s(one.end_us)) for one in found] == [
        ("begun", 8.0), ("ended", 10.0),
    ]  # fmt: skip
    assert [one.values["records"] for one in found] == [3, 2]


def test_too_few_are_judged_after_the_first_stretch() -> None:
    rule = rule_of(HEAD + "rate = { per_s = 10, below = 2 }")
    found = told(rule, handed(0.0, 4.0, 30.0, 31.0, 32.0), end_s=33.0)
    assert [(one.action, since_start_s(one.end_us)) for one in found] == [
        ("begun", 10.0), ("ended", 31.0),
    ]  # fmt: skip


@pytest.mark.parametrize("limit", ["below = 4", "above = 3"])
def test_periodic_records_do_not_flap_about_the_limit_they_just_keep(limit: str) -> None:
    """One leaves the stretch at the moment at which the next is in: there are always four."""
    rule = rule_of(HEAD + f"rate = {{ per_s = 4, {limit} }}")
    found = told(rule, handed(*range(60)), end_s=59.0)
    assert [one.action for one in found] == (["begun"] if "above" in limit else [])
    (last,) = told(rule, handed(*range(60)))[len(found) :]
    assert since_start_s(last.end_us) == 60.0


# ---- holds

ZONE = HEAD + 'where = [{ field = "in", equals = true }]\nhold = { for_s = 2, gap_s = 0.5 }'


def looks(*at_s: float, inside: bool) -> list[Handed]:
    return handed(*at_s, fields={"in": inside})


def test_something_that_stays_in_a_zone_is_told_when_it_begins_and_ends() -> None:
    given = [*looks(0, 0.5, 1, 1.5, 2, 2.5, 3, inside=True), *looks(3.4, inside=False)]
    given += [*looks(3.5, inside=True), *looks(4, 4.5, 5, inside=False)]
    found = told(rule_of(ZONE), given)
    assert [(one.action, *span) for one, span in zip(found, spans(found), strict=True)] == [
        ("begun", 0, 2), ("ended", 0, 3.5),
    ]  # fmt: skip


def test_records_of_one_time_are_one_look() -> None:
    rule = rule_of(HEAD + 'where = [{ field = "in", equals = true }]\nhold = { for_s = 2 }')
    given: list[Handed] = []
    for at in (0.0, 1.0, 2.0):
        given += [(record(at, {"in": False}, name=f"a{at}"), ())]
        given += [(record(at, {"in": True}, name=f"b{at}"), ())]
    given += looks(3.0, 4.0, inside=False)
    assert [one.action for one in told(rule, given)] == ["begun", "ended"]


def test_silence_ends_a_hold() -> None:
    found = told(rule_of(ZONE), looks(0, 0.5, 1, 1.5, 2, inside=True))
    assert [(one.action, since_start_s(one.end_us)) for one in found] == [
        ("begun", 2),
        ("ended", 2),
    ]


def test_a_value_that_lasted_is_told_once() -> None:
    rule = rule_of(HEAD + 'hold = { for_s = 2, field = "v" }')
    given = [(record(at, {"v": value}), ()) for at, value in enumerate("aaabaaabbbb")]
    found = told(rule, given)
    assert [(one.values["v"], *span) for one, span in zip(found, spans(found), strict=True)] == [
        ("a", 0, 2), ("b", 7, 9),
    ]  # fmt: skip


# ---- the contract


class TestTumbling(StepContract):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nwindow = { size_s = 1 }\nmost_keys = 2')

    @pytest.fixture
    def handed(self) -> list[Handed]:
        return [(record(0.3 * at, {"frame": f"f{at}"}), ("abc"[at % 3],)) for at in range(30)]


class TestHopping(TestTumbling):
    @pytest.fixture
    def rule(self) -> Rule:
        text = 'key = ["k"]\n[window]\nkind = "hopping"\nsize_s = 2\nevery_s = 0.5'
        figure = '\n[[aggregate]]\nname = "d"\nof = "distinct"\nfield = "frame"'
        return rule_of(HEAD + text + figure)


class TestSessions(TestTumbling):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nwindow = { kind = "session", gap_s = 0.8 }')


class TestChanges(TestTumbling):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nemit = "changes"\nwindow = { size_s = 1 }')


class TestPairs(TestTumbling):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nmost_keys = 2\npair = { within_s = 1 }')


class TestPairChanges(TestTumbling):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nemit = "changes"\npair = {}')


class TestRates(TestTumbling):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nrate = { per_s = 2, above = 1.5 }')


class TestLowRates(TestTumbling):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nrate = { per_s = 0.7, below = 1 }')


class TestSequences(StepContract):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of('key = ["k"]\n' + SEQUENCE)

    @pytest.fixture
    def handed(self) -> list[Handed]:
        return [(record(0.7 * at, {"is": "AABC"[at % 4]}), ("xyz"[at % 3],)) for at in range(40)]


class TestMissing(TestSequences):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of('key = ["k"]\nmost_keys = 3\n' + SEQUENCE + "missing = true")


class TestHolds(StepContract):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of('key = ["k"]\n' + ZONE)

    @pytest.fixture
    def handed(self) -> list[Handed]:
        return [
            (record(0.2 * at, {"in": at % 31 < 25, "v": at // 13}), ("xy"[at % 2],))
            for at in range(120)
        ]


class TestSteadyValues(TestHolds):
    @pytest.fixture
    def rule(self) -> Rule:
        return rule_of(HEAD + 'key = ["k"]\nhold = { for_s = 1, field = "v" }')


# ---- repeats

REJECTED = "match = [{ field = 'label', equals = 'reject' }]"


def labelled(text: str, *, every_s: float = 1.0) -> list[Handed]:
    """One record a letter: ``r`` is a reject, ``g`` is good."""
    labels = {"r": "reject", "g": "good"}
    return [(record(n * every_s, {"label": labels[one]}), ()) for n, one in enumerate(text)]


def spoken(outputs: list[Output]) -> list[tuple[str, float, float]]:
    return [(one.action, since_start_s(one.start_us), since_start_s(one.end_us)) for one in outputs]


def test_three_in_a_row_begin_with_the_third_and_end_with_one_that_is_not() -> None:
    rule = rule_of(HEAD + f"repeat = {{ times = 3, {REJECTED} }}")
    found = told(rule, labelled("rrgrrrrgr"))
    assert spoken(found) == [("begun", 3, 5), ("ended", 3, 7)]
    assert [one.values for one in found] == [
        {"matches": 3, "records": 3, "lasted_s": 0.0},
        {"matches": 2, "records": 3, "lasted_s": 2.0},
    ]


def test_so_many_of_the_last_need_not_follow_one_another() -> None:
    rule = rule_of(HEAD + f"repeat = {{ times = 2, last = 4, {REJECTED} }}")
    assert spoken(told(rule, labelled("rggrgggg"))) == [("begun", 0, 3), ("ended", 0, 4)]


def test_what_lies_too_far_back_counts_no_more_and_time_alone_ends_it() -> None:
    rule = rule_of(HEAD + f"repeat = {{ times = 2, within_s = '3 s', {REJECTED} }}")
    assert told(rule, labelled("rr", every_s=3.5)) == []
    assert spoken(told(rule, labelled("rr", every_s=3))) == [("begun", 0, 3), ("ended", 0, 3)]
    assert spoken(told(rule, labelled("rrrr"))) == [("begun", 0, 1), ("ended", 0, 5)]


@given(st.text("rg", max_size=60), st.integers(1, 4), st.integers(0, 4))
def test_a_repeat_holds_where_enough_of_the_last_records_match(
    text: str, times: int, more: int
) -> None:
    rule = rule_of(HEAD + f"repeat = {{ times = {times}, last = {times + more}, {REJECTED} }}")
    expected, held = [], False
    for place in range(len(text)):
        last = text[max(0, place + 1 - times - more) : place + 1]
        if (last.count("r") >= times) is not held:
            held = not held
            expected.append(("begun" if held else "ended", float(place)))
    found = [(action, end_s) for action, _, end_s in spoken(told(rule, labelled(text)))]
    assert found == expected


def test_repeats_are_counted_for_each_key_and_the_one_unused_longest_is_ended_early() -> None:
    rule = rule_of(HEAD + f"key = ['k']\nmost_keys = 1\nrepeat = {{ times = 2, {REJECTED} }}")
    given = [(one, (key,)) for (one, _), key in zip(labelled("rrr"), "aab", strict=True)]
    found = told(rule, given)
    assert [(one.action, one.key["k"]) for one in found] == [("begun", "a"), ("ended", "a")]


class TestRepeats(StepContract):
    @pytest.fixture(params=["", "last = 5,", "within_s = 2,", "last = 6, within_s = 3,"])
    def rule(self, request: pytest.FixtureRequest) -> Rule:
        return rule_of(HEAD + f'key = ["k"]\nrepeat = {{ times = 3, {request.param} {REJECTED} }}')

    @pytest.fixture
    def handed(self) -> list[Handed]:
        draws = ["reject" if n * n % 7 in {1, 2, 4} or n % 11 < 4 else "good" for n in range(90)]
        return [
            (record(0.4 * (n // 2), {"label": one}, name=f"r{n}"), ("ab"[n % 3 == 0],))
            for n, one in enumerate(draws)
        ]


# ---- joins

SIDES = 'id = "r"\nread = { predictions = ["front", "back"] }\n'


def seen(side: str, at_s: float, label: str = "good", *, part: str = "p") -> Handed:
    name = f"{side}{at_s}"
    fields: dict[str, Scalar] = {"inspection": side, "label": label, "frame": f"frm_{name}"}
    return record(at_s, fields, name=name), (part,)


def joined(declared: str) -> Rule:
    return rule_of(f'{SIDES}key = ["part"]\njoin = {{ {declared}, fields = ["label"] }}')


def test_one_record_of_each_side_is_told_by_the_one_that_completes_it() -> None:
    found = told(joined("within_s = 2"), [seen("back", 1.0, "bad"), seen("front", 3.0)])
    assert [(one.name, spans([one])[0], one.values, one.causes) for one in found] == [
        (
            "back1.0", (1, 3),
            {
                "front.label": "good", "back.label": "bad", "apart_s": 2.0, "complete": True,
                "agree": False, "frame": "frm_front3.0",
            },
            ("back1.0", "front3.0"),
        )
    ]  # fmt: skip


def test_parts_are_joined_with_their_own_only() -> None:
    given = [
        seen("front", 0, part="a"), seen("front", 1, part="b"), seen("back", 1.5, part="b"),
        seen("back", 1.8, part="a"),
    ]  # fmt: skip
    found = told(joined("within_s = 2"), given)
    assert [(one.key["part"], one.values["apart_s"]) for one in found] == [("b", 0.5), ("a", 1.8)]


def test_what_lies_farther_apart_is_not_joined_and_told_where_that_is_asked() -> None:
    given = [seen("front", 0), seen("back", 2.000001)]
    assert told(joined("within_s = 2"), given) == []
    found = told(joined("within_s = 2, incomplete = true"), given)
    assert [(one.name, one.values["missing"]) for one in found] == [
        ("front0", "back"), ("back2.000001", "front"),
    ]  # fmt: skip
    assert not any(one.values["complete"] or "agree" in one.values for one in found)


def test_several_of_one_side_wait_each_for_one_of_the_other() -> None:
    given = [seen("front", 0), seen("front", 0.4), seen("back", 0.5), seen("back", 0.6)]
    found = told(joined("within_s = 1"), given)
    assert [one.causes for one in found] == [("front0", "back0.5"), ("front0.4", "back0.6")]


def test_the_group_that_waits_longest_makes_room() -> None:
    rule = rule_of(SIDES + "most_keys = 1\njoin = { within_s = 9, incomplete = true }")
    given = [(one, ()) for one, _ in (seen("front", 0), seen("front", 1), seen("back", 2))]
    found = told(rule, given)
    assert [(one.name, one.values.get("evicted", False)) for one in found] == [
        ("front0", True), ("front1", False),
    ]  # fmt: skip


class TestJoins(StepContract):
    @pytest.fixture(params=["", ", incomplete = true"])
    def rule(self, request: pytest.FixtureRequest) -> Rule:
        text = f'key = ["part"]\nmost_keys = 4\njoin = {{ within_s = 4{request.param} }}'
        return rule_of(SIDES.replace('"back"', '"back", "top"') + text)

    @pytest.fixture
    def handed(self) -> list[Handed]:
        sides = ("front", "back", "top")
        return [
            seen(sides[(n + n // 5) % 3], 0.3 * n, "xy"[n % 7 == 0], part="abc"[n // 4 % 3])
            for n in range(80)
        ]
