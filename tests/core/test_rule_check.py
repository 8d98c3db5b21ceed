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
    assert faults_of(SOUND.replace('event = "windows"', 'event = "camera"')) == ()


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
        ('id = "pairs"', 'id = "camera"', "$.rule[1].id", "Rename it"),
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


ROUTES = """
[[route]]
topic = "sockfound"
kind = "message"
[[route]]
topic = "f/i/state/+"
kind = "station"
"""


@pytest.mark.parametrize(
    "topic",
    [
        "sockfound", "+", "#", "f/#", "f/i/state/#", "f/i/state/MPO", "+/i/+/+", "sockfound/#",
        "lineside/works/belt/top/frame", "lineside/#",
    ],
)  # fmt: skip
def test_a_topic_that_a_route_can_take_is_no_fault(topic: str) -> None:
    rule = f'[[rule]]\nid = "r"\nread = {{ topic = "{topic}" }}\nrate = {{ per_s = 1, above = 1 }}'
    assert faults_of(ROUTES + rule) == ()


@pytest.mark.parametrize("topic", ["sockfund", "f/i/state", "+/+", "f/i/state/a/b", "sockfound/+"])
def test_a_topic_that_no_route_takes_is_refused_with_those_that_are(topic: str) -> None:
    rule = f'[[rule]]\nid = "r"\nread = {{ topic = "{topic}" }}\nrate = {{ per_s = 1, above = 1 }}'
    [fault] = faults_of(ROUTES + rule)
    assert fault.path == "$.rule[0].read.topic"
    assert "Known: sockfound, f/i/state/+." in fault.fix
    assert faults_of(rule) == ()  # a plant without routes reads recordings


def test_the_topic_that_begins_a_session_needs_a_route_too() -> None:
    sound = 'id = "r"\nread = { topic = "sockfound" }\npair = { session = "sockfound" }'
    assert faults_of(f"{ROUTES}[[rule]]\n{sound}") == ()
    wrong = sound.replace('session = "sockfound"', 'session = "sessjon"')
    [fault] = faults_of(f"{ROUTES}[[rule]]\n{wrong}")
    assert fault.path == "$.rule[0].pair.session"


@pytest.mark.parametrize(
    ("field", "sound"),
    [
        ("count", True), ("sure", True), ("label", True), ("seconds", True), ("action", True),
        ("revision", True), ("name", True), ("frame", True), ("rule", False), ("state", False),
        ("probability", False),
    ],
)  # fmt: skip
def test_having_tests_what_the_step_gives_out_and_nothing_else(field: str, sound: bool) -> None:  # noqa: FBT001  the expected answer
    having = f'having = [{{ field = "{field}", known = true }}]'
    rules = SOUND.replace('having = [{ field = "count", above = 3 }]', having)
    found = [(one.path, one.expected) for one in faults_of(rules)]
    fault = ("$.rule[0].having[0].field", "a field of what the step gives out")
    assert found == ([] if sound else [fault])


def test_having_tests_a_frame_only_where_what_is_read_may_have_one() -> None:
    step = 'rate = { per_s = 1, above = 1 }\nhaving = [{ field = "frame", known = true }]'
    reads = {'plant = "alert"': 1, 'plant = "frame"': 0, 'topic = "t"': 0}
    for read, faults in reads.items():
        assert len(faults_of(f'[[rule]]\nid = "r"\nread = {{ {read} }}\n{step}')) == faults, read


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("size_s = 5", 'size_s = "5"', "$.rule[0].window.size_s"),
        ("size_s = 5", "size_s = 0", "$.rule[0].window.size_s"),
        ("size_s = 5", 'kind = "hoping", size_s = 5, every_s = 9', "$.rule[0].window.kind"),
        (
            "size_s = 5", 'kind = "hopping", size_s = "5", every_s = 2', "$.rule[0].window.size_s",
        ),
        ('of = "mean"', 'of = "median"', "$.rule[0].aggregate[0].of"),
        (', field = "probability"', "", "$.rule[0].aggregate[0].field"),
        ('key = ["label"]\nwindow', 'key = ["label", 5]\nwindow', "$.rule[0].key[1]"),
        ('task = "classify"', 'task = "classifyy", good = ["Google"]', "$.inspection[0].task"),
        ('"Blank"] }]', '5], good = ["Google"] }]', "$.inspection[0].labels[1]"),
    ],
)  # fmt: skip
def test_one_broken_value_is_one_fault_and_hides_no_other(old: str, new: str, path: str) -> None:
    text = PLANT + SOUND
    assert old in text
    broken = text.replace(old, new, 1)
    for more in ("", '[[rule]]\nid = "z"\nread = { event = "windws" }\npair = {}\n'):
        with pytest.raises(InvalidError) as caught:
            parse_plant((broken + more).encode(), where="plant.toml")
        expected = [path, "$.rule[2].read.event"] if more else [path]
        assert [fault.path for fault in caught.value.faults] == expected, caught.value.faults


def test_a_figure_that_could_not_be_read_is_not_missed_by_who_tests_it() -> None:
    rules = SOUND.replace('of = "mean"', 'of = "median"').replace('"count"', '"sure"')
    more = '[[rule]]\nid = "z"\nread = { event = "windows" }\nkey = ["sure"]\npair = {}\n'
    assert [fault.path for fault in faults_of(rules + more)] == ["$.rule[0].aggregate[0].of"]


def test_windows_with_gaps_are_told_what_to_write() -> None:
    gaps = SOUND.replace("size_s = 5", 'kind = "hopping", size_s = 5, every_s = 7.5')
    [fault] = faults_of(gaps)
    assert fault.expected == "at most size_s, so that windows leave no gaps"
    assert fault.fix == "Write every_s = 5, or less."


def test_figures_without_a_window_are_told_by_their_names() -> None:
    alone = SOUND.replace("window = { size_s = 5 }", "hold = { for_s = 1 }").replace("having", "#")
    [fault] = [one for one in faults_of(alone) if one.path == "$.rule[0].aggregate"]
    assert str(fault).endswith("['sure'] is not figures of a window. Add [rule.window].")


def test_durations_with_units_stand_wherever_seconds_do() -> None:
    text = SOUND.replace("size_s = 5", 'size_s = "10 min"').replace(
        "pair = {}", 'pair = { within_s = "36 h" }\nlateness_s = "500 ms"\nidle_s = "1 min"'
    )
    plant = parse_plant((PLANT + text).encode(), where="plant.toml")
    windows, pairs = plant.rule
    assert windows.window is not None
    assert pairs.pair is not None
    assert (windows.window.size_s, pairs.pair.within_s) == (600, 129_600)
    assert (pairs.lateness_s, pairs.idle_s) == (0.5, 60)


def test_what_is_no_duration_is_refused_with_an_example() -> None:
    [fault] = faults_of(SOUND.replace("size_s = 5", 'size_s = "ten minutes"'))
    assert fault.path == "$.rule[0].window.size_s"
    assert str(fault).endswith('Write seconds, or text with a unit such as "10 min".')
    [fault] = faults_of(SOUND.replace("size_s = 5", 'kind = "hopping", size_s = 60, every_s = 90'))
    assert fault.fix == 'Write every_s = "1 min", or less.'


TWO = """
[[rule]]
id = "both"
read = { predictions = ["sock", "toe"] }
key = ["part"]
join = { within_s = 2, fields = ["label"] }
having = [{ field = "agree", equals = false }, { field = "toe.label", known = true }]
[[rule]]
id = "either"
read = { event = ["both", "windows"] }
window = { size_s = 5 }
"""
TOE = PLANT.replace(
    "inspection = [", 'inspection = [{ id = "toe", camera = "top", task = "detect" }, '
)


def faults_of_two(old: str = "", new: str = "") -> dict[str, Fault]:
    assert old in TWO
    try:
        parse_plant((TOE + SOUND + TWO.replace(old, new, 1)).encode(), where="plant.toml")
    except InvalidError as error:
        return {fault.path: fault for fault in error.faults}
    return {}


@pytest.mark.parametrize(
    ("old", "new", "path", "told"),
    [
        ("", "", "", ""),
        ('["sock", "toe"]', '["sock", "tow"]', "$.rule[2].read.predictions[1]", "'toe'"),
        ('["sock", "toe"]', '["sock", "sock"]', "$.rule[2].read", "Rename"),
        ('["sock", "toe"]', '"sock"', "$.rule[2].read", 'predictions = ["…", "…"]'),
        ('fields = ["label"]', 'fields = ["labell"]', "$.rule[2].join.fields[0]", "'label'"),
        ('"toe.label"', '"heel.label"', "$.rule[2].having[1].field", "'toe.label'"),
        ('["both", "windows"]', '["both", "window"]', "$.rule[3].read.event[1]", "'windows'"),
        ('["both", "windows"]', '["both", "either"]', "$.rule[3].read.event[1]", "Known: "),
    ],
)  # fmt: skip
def test_a_rule_may_read_several_inspections_or_rules(
    old: str, new: str, path: str, told: str
) -> None:
    found = faults_of_two(old, new)
    assert set(found) >= ({path} if path else set())
    assert told in (found[path].fix if path else "")
    assert bool(found) is bool(path)


def test_a_circle_over_one_of_several_rules_is_told() -> None:
    circle = (SOUND + TWO).replace('predictions = "sock"', 'event = ["either"]')
    with pytest.raises(InvalidError) as caught:
        parse_plant((TOE + circle).encode(), where="plant.toml")
    [found] = [fault for fault in caught.value.faults if "→" in fault.expected]
    assert "'windows' → 'either' → 'windows'" in found.expected


LABELS = """
[[rule]]
id = "r"
read = { predictions = "sock", answers = "each" }
"""
PAIR = "pair = {}\n"
WINDOW = "window = { size_s = 5 }\n"
SEQUENCE = """
[rule.sequence]
within_s = 3
first = [{ field = "label", equals = "x" }]
then = [{ field = "label", equals = "Google" }]
"""


def where(field: str, test: str) -> str:
    return f'where = [{{ field = "{field}", {test} }}]\n{PAIR}'


def figure(of: str, *, having: str = "", **more: str) -> str:
    rest = "".join(f", {key} = {value}" for key, value in more.items())
    tested = f'having = [{{ field = "g", {having} }}]' if having else ""
    return f'{WINDOW}aggregate = [{{ name = "g", of = "{of}"{rest} }}]\n{tested}'


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        (where("label", 'equals = "Gogle"'), "where[0].equals",
         "Did you mean 'Google'? Known: Blank, Google."),
        (where("label", 'any_of = ["Google", "Blnk"]'),
         "where[0].any_of[1]", "'Blank'"),
        (where("label", 'none_of = ["Blnk"]'), "where[0].none_of[0]",
         "'Blank'"),
        (where("label", 'like = "go*"'), "where[0].like", "'Google'"),
        (where("label", "above = 3"), "where[0].above", "'Blank'"),
        (where("decision", 'equals = "reject"'), "where[0].equals",
         "Known: present, absent, unsure."),
        (where("state", 'equals = "dark"'), "where[0].equals", "black"),
        (where("camera", 'equals = "tip"'), "where[0].equals", "'top'"),
        (where("probability", "above = 80"), "where[0].above",
         "Write 0.8 for 80 percent."),
        (where("share", "above = 5"), "where[0].above", "0.05"),
        (where("probability", "at_most = -1"), "where[0].at_most", "0 to 1"),
        (where("more", 'equals = "yes"'), "where[0].equals", "true or"),
        ('repeat = { times = 2, match = [{ field = "label", equals = "x" }] }',
         "repeat.match[0].equals", "Known: Blank, Google."),
        ('sighting = { blank = ["blank"] }', "sighting.blank[0]", "'Blank'"),
        ('sighting = { labels = ["Gogle"] }', "sighting.labels[0]", "'Google'"),
        ('window = { size_s = 5 }\nhaving = [{ field = "count", equals = 0 }]', "having[0].equals",
         "1 or more"),
        (figure("share", where='[{ field = "label", equals = "Goggle" }]'),
         "aggregate[0].where[0].equals", "'Google'"),
        (figure("share", where='[{ field = "label", known = true }]', having="above = 5"),
         "having[0].above", "Write 0.05 for 5 percent."),
        (figure("mean", field='"probability"', having="at_least = 1.5"), "having[0].at_least",
         "0 to 1"),
        ('key = ["label"]\nwindow = { size_s = 5 }\nhaving = [{ field = "label", equals = "x" }]',
         "having[0].equals", "Known: Blank, Google."),
        (SEQUENCE, "sequence.first[0].equals", "Known:"),
        ('sighting = {}\nhaving = [{ field = "label", equals = "unknowns" }]', "having[0].equals",
         "'unknown'"),
    ],
)  # fmt: skip
def test_values_that_a_field_cannot_have_are_faults(text: str, path: str, told: str) -> None:
    [fault] = faults_of(LABELS + text)
    assert fault.path == f"$.rule[0].{path}"
    assert told in str(fault)


@pytest.mark.parametrize(
    "text",
    [
        where("label", 'any_of = ["Google", "Blank"], like = "*o*"'),
        where("probability", "at_least = 1, at_most = 1"),
        where("share", "below = 1, above = 0"),
        'window = { size_s = 5 }\nhaving = [{ field = "count", above = 5 }]',
        'sighting = { blank = ["Blank"] }\nhaving = [{ field = "label", none_of = ["unknown"] }]',
    ],
)
def test_values_that_a_field_can_have_are_none(text: str) -> None:
    assert faults_of(LABELS + text) == ()


def test_what_a_chain_of_rules_says_is_known_too() -> None:
    seen = LABELS + 'key = ["camera"]\nsighting = { blank = ["Blank"] }\n'
    after = '[[rule]]\nid = "n"\nread = { event = "r" }\nwhere = [{ field = "label", equals = "'
    assert faults_of(f'{seen}{after}Google" }}]\n{PAIR}') == ()
    [fault] = faults_of(f'{seen}{after}Blank" }}]\n{PAIR}')  # what is blank is no thing that passed
    assert "Known: Google, unknown." in fault.fix
    of_two = (
        'read = { predictions = ["sock", "toe"] }\nwhere = [{ field = "label", equals = "any" }]'
    )
    rule = f'[[rule]]\nid = "two"\n{of_two}\n{PAIR}'
    parse_plant((TOE + rule).encode(), where="plant.toml")  # one of them may say any label


def test_bounds_between_which_nothing_fits_are_a_fault() -> None:
    for bounds in ("above = 5, below = 3", "at_least = 3, below = 3", "above = 3, at_most = 3"):
        [fault] = faults_of(LABELS + where("x_px", bounds))
        assert fault.expected == "bounds between which a figure fits"
    assert (
        faults_of(LABELS + f'where = [{{ field = "x_px", at_least = 3, at_most = 3 }}]\n{PAIR}')
        == ()
    )
