"""Rules of a plant file: what they name must be there."""

import pytest

from lineside.core import Fault, InvalidError, parse_plant

PLANT = """
schema = "lineside.plant/1"
site = "works"
line = [{ id = "belt", name = "Belt" }]
camera = [{ id = "top", line = "belt", source = "folder:pictures" }]
inspection = [{ id = "sock", camera = "top", task = "classify", labels = ["Google", "Blank"] }]
"""
SOUND = """
[[rule]]
id = "windows"
read = { predictions = "sock" }
where = [{ field = "label", none_of = ["Blank"] }]
key = ["label"]
window = { size_s = 5 }
aggregate = [{ name = "sure", of = "mean", field = "probability" }]
having = [{ field = "count", above = 3 }]
[[rule]]
id = "pairs"
read = { event = "windows" }
key = ["label"]
pair = {}
"""


def faults_of(rules: str) -> tuple[Fault, ...]:
    try:
        parse_plant((PLANT + rules).encode(), where="plant.toml")
    except InvalidError as error:
        return error.faults
    return ()


def test_sound_rules_have_no_fault() -> None:
    assert faults_of(SOUND) == ()


@pytest.mark.parametrize(
    ("old", "new", "path", "fix"),
    [
        ('predictions = "sock"', 'predictions = "sick"', "$.rule[0].read.predictions", "'sock'"),
        ('event = "windows"', 'event = "window"', "$.rule[1].read.event", "'windows'"),
        ('event = "windows"', 'plant = "alarm"', "$.rule[1].read.plant", "'alert'"),
        ('event = "windows"', 'topic = "a/#/b"', "$.rule[1].read.topic", "last level"),
        ('field = "label"', 'field = "labell"', "$.rule[0].where[0].field", "'label'"),
        ('field = "count"', 'field = "cuont"', "$.rule[0].having[0].field", "'count'"),
        ('field = "probability"', 'field = "odds"', "$.rule[0].aggregate[0].field", "Known:"),
        ('key = ["label"]\npair', 'key = ["labell"]\npair', "$.rule[1].key[0]", "'label'"),
        ('key = ["label"]\npair', 'key = ["label", "label"]\npair', "$.rule[1].key", "Rename"),
        ('id = "pairs"', 'id = "windows"', "$.rule", "Rename one."),
        ('id = "pairs"', 'id = "drift"', "$.rule[1].id", "Rename it"),
        ('id = "pairs"', 'id = "a/b"', "$.rule[1].id", "letters"),
        ('id = "pairs"', 'id = "pairs"\nline = "bolt"', "$.rule[1].line", "'belt'"),
        ("pair = {}", 'pair = { session = "a/+" }', "$.rule[1].pair.session", "Name the topic"),
        ("pair = {}", "hold = { for_s = 2 }", "$.rule[1].where", "Add where"),
        ("pair = {}", 'hold = { for_s = 2, field = "x" }', "$.rule[1].hold.field", "Known:"),
        (
            'sock" }', 'sock", cameras = ["tap"] }', "$.rule[0].read.cameras[0]", "'top'",
        ),
    ],
)  # fmt: skip
def test_each_fault_has_its_path_and_its_mend(old: str, new: str, path: str, fix: str) -> None:
    assert old in SOUND
    found = [fault for fault in faults_of(SOUND.replace(old, new, 1)) if fault.path == path]
    assert found, faults_of(SOUND.replace(old, new, 1))
    assert fix in found[0].fix


def test_a_circle_of_rules_is_told_once_with_its_way() -> None:
    circle = SOUND.replace('predictions = "sock"', 'event = "pairs"')
    found = [fault for fault in faults_of(circle) if "→" in fault.expected]
    assert len(found) == 1
    assert "'windows' → 'pairs' → 'windows'" in found[0].expected


def test_a_rule_does_not_read_itself() -> None:
    alone = SOUND.replace('event = "windows"', 'event = "pairs"')
    assert "$.rule[1].read.event" in {fault.path for fault in faults_of(alone)}


def test_fields_of_messages_that_are_not_known_ahead_are_no_fault() -> None:
    free = SOUND.replace('predictions = "sock"', 'topic = "sockfound"')
    assert faults_of(free) == ()


def test_what_sequences_test_is_looked_at() -> None:
    rules = """
    [[rule]]
    id = "door"
    read = { plant = "alert" }
    [rule.sequence]
    within_s = 3
    first = [{ field = "code", equals = 100 }]
    then = [{ field = "cod", equals = 200 }]
    """
    assert [fault.path for fault in faults_of(rules)] == ["$.rule[0].sequence.then[0].field"]


def test_a_crossing_reads_every_box() -> None:
    rules = """
    [[rule]]
    id = "line"
    read = { predictions = "sock" }
    crossing = { x0_px = 0, y0_px = 0, x1_px = 1, y1_px = 1 }
    """
    assert [fault.path for fault in faults_of(rules)] == ["$.rule[0].read.answers"]
