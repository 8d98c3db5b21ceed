"""All rules of a plant file together say what each of them says with those it reads."""

from dataclasses import replace

from lineside.core import Plant
from lineside.streams import EVENT_TYPE, Entry, Event, RuleSet, memory_s
from lineside.streams.rules.replay import reading_order, run_rule
from lineside.testing.events import small_plant
from lineside.testing.rules import message, rule_of

PAIRS = 'id = "pairs"\nread = { event = "windows" }\nkey = ["image"]\npair = {}\n'
WINDOWS = """
id = "windows"
read = { topic = "sockfound" }
key = ["image"]
window = { size_s = 2 }
"""
RATE = 'id = "rate"\nread = { topic = "sockfound" }\nrate = { above = 2, per_s = 3 }\n'


BOTH = """
id = "both"
read = { event = ["pairs", "windows"] }
join = { within_s = 9, fields = ["image"] }
"""


def plant() -> Plant:
    """The readers stand before what they read."""
    texts = (BOTH, PAIRS, WINDOWS, RATE)
    return replace(small_plant(), rule=tuple(map(rule_of, texts)))


def entries() -> list[Entry]:
    images = ("Google", "Mongo", "Google", "Github", "Google", "Mongo", "Mongo", "Github")
    return [
        message("sockfound", {"image": image}, at_s=place * 0.7, name=f"m{place}")
        for place, image in enumerate(images * 3)
    ]


def everything(rules: RuleSet, told: list[Entry]) -> list[Event]:
    said = [event for entry in told for event in rules.take([entry])]
    return [*said, *rules.finish()]


def test_together_they_say_what_each_says_alone() -> None:
    whole = everything(RuleSet(plant()), entries())
    for rule in plant().rule:
        alone = list(run_rule(rule, entries(), plant=plant()))
        assert alone
        assert [one for one in whole if one.subject == rule.id] == alone


def test_what_is_read_stands_before_its_reader() -> None:
    names = [rule.id for rule in reading_order(plant())]
    assert names.index("windows") < names.index("pairs")
    assert names.index("pairs") < names.index("both")
    assert sorted(names) == ["both", "pairs", "rate", "windows"]


def test_what_was_recorded_of_its_own_rules_is_passed_over() -> None:
    rules = RuleSet(plant())
    recorded = Entry(type=EVENT_TYPE, subject="windows", arrived_us=1, body=b"{}")
    foreign = Entry(type=EVENT_TYPE, subject="drift", arrived_us=1, body=b"{}")
    assert rules.says(recorded)
    assert not rules.says(foreign)
    assert rules.take([recorded]) == []


def test_no_rules_say_nothing_and_remember_nothing() -> None:
    bare = replace(plant(), rule=())
    assert everything(RuleSet(bare), entries()) == []
    assert memory_s(bare) == 0.0


def test_memory_reaches_as_far_as_the_longest_chain() -> None:
    alone = replace(plant(), rule=(rule_of(WINDOWS),))
    assert 0 < memory_s(alone) < memory_s(plant())
