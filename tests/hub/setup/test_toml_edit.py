"""Edits of a plant file: what they say is in it afterwards, and nothing else has moved."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.core import ConflictError, InvalidError, NotFoundError
from lineside.hub.setup.toml_edit import PlantEdit, edit_text, entry_text

TEXT = '''# The hall.
schema = "lineside.plant/1"
site = "hall"   # never renamed

[[line]]
id = "press"
name = "Press"

# The camera above the press.
[[camera]]
id = "top"              # the upper one
line = "press"
source = "rtsp://10.0.0.7/a#b"  # [[camera]] in a comment
note = """
[[camera]]
id = "not a camera"
"""

[[camera]]
id = "side"
line = "press"
source = "folder:frames"
# said twice

[[inspection]]
id = "stains"
camera = "top"
labels = [
  "good", # fine
  "stain",
]

[inspection.trigger]
on = "interval"
interval_s = 2.0

[[inspection.region]]
id = "a1"   # left
box_px = { x0_px = 0, y0_px = 0, x1_px = 10, y1_px = 10 }
label = "blue"

[[rule]]
id = "often"
'''


def changed(edit: PlantEdit, text: str = TEXT) -> dict[str, Any]:
    return tomllib.loads(edit_text(text, edit))


def test_a_value_is_set_and_every_other_line_stays() -> None:
    made = edit_text(TEXT, PlantEdit(section="camera", id="top", values={"line": "other"}))
    before, after = TEXT.splitlines(), made.splitlines()
    assert [one for one in after if one not in before] == ['line = "other"']
    assert [one for one in before if one not in after] == []  # the same line stands elsewhere
    assert 'id = "top"              # the upper one' in after


def test_a_changed_key_keeps_its_comment() -> None:
    edit = PlantEdit(section="camera", id="top", values={"id": "roof"})
    assert 'id = "roof"              # the upper one' in edit_text(TEXT, edit).splitlines()


def test_keys_of_the_file_itself_are_edited() -> None:
    assert changed(PlantEdit(section="", values={"name": "Hall 4"}))["name"] == "Hall 4"


def test_a_key_below_a_table_is_set_and_taken_away() -> None:
    edit = PlantEdit(
        section="inspection", id="stains",
        values={"trigger.interval_s": 5, "view.width_px": 640, "labels": None},
    )  # fmt: skip
    found = changed(edit)["inspection"][0]
    assert found["trigger"] == {"on": "interval", "interval_s": 5}
    assert found["view"] == {"width_px": 640}
    assert "labels" not in found


def test_an_entry_is_added_behind_the_last_of_its_kind() -> None:
    edit = PlantEdit(section="camera", values={"id": "back", "line": "press", "source": "v4l:0"})
    made = edit_text(TEXT, edit)
    assert [one["id"] for one in tomllib.loads(made)["camera"]] == ["top", "side", "back"]
    assert '[[camera]]\nid = "back"' in made
    assert made.index('id = "back"') < made.index("# said twice")


def test_a_section_that_the_file_lacks_begins_at_its_end() -> None:
    made = edit_text(TEXT, PlantEdit(section="route", values={"topic": "a/b", "kind": "frame"}))
    assert made.startswith(TEXT)
    assert tomllib.loads(made)["route"] == [{"topic": "a/b", "kind": "frame"}]


def test_an_entry_is_taken_away_and_the_last_takes_its_section_with_it() -> None:
    made = edit_text(TEXT, PlantEdit(section="camera", id="top", remove=True))
    assert [one["id"] for one in tomllib.loads(made)["camera"]] == ["side"]
    assert "# The camera above the press." in made
    assert "rule" not in changed(PlantEdit(section="rule", id="often", remove=True))


def test_a_whole_entry_is_replaced_by_text_with_its_comments() -> None:
    text = "[[rule]]\n# why\nid = 'often'\nemit = 'x'\n"
    made = edit_text(TEXT, PlantEdit(section="rule", id="often", text=text))
    assert made.endswith(text)
    assert entry_text(made, "rule", "often") == text


def test_regions_are_replaced_and_one_that_stays_keeps_its_comment() -> None:
    box = {"x0_px": 0, "y0_px": 0, "x1_px": 10, "y1_px": 12}
    regions = [
        {"id": "a1", "box_px": box, "label": "blue"},
        {"id": "a2", "box_px": box, "classes": ["x", "y"]},
    ]
    edit = PlantEdit(section="inspection", id="stains", values={"region": regions})
    made = edit_text(TEXT, edit)
    assert tomllib.loads(made)["inspection"][0]["region"] == regions
    assert 'id = "a1"   # left' in made


REGIONS = """[[inspection]]
id = "stains"

# What is left.
[[inspection.region]]
id = "a1"   # left
label = "blue"

# What is right.
[[inspection.region]]
id = "a2"   # right
label = "red"
# The end of it.

# What is behind.
[[inspection.region]]
id = "a3"
label = "white" # in the shade

[inspection.view] # as taken
width_px = 10
"""


@pytest.mark.parametrize(
    "order", [("a2",), ("a3", "a1"), ("a3", "new", "a2"), ("new", "a1", "a2", "a3"), ("new",)]
)
def test_a_region_that_stays_keeps_its_comments_where_others_go_or_change_places(
    order: tuple[str, ...],
) -> None:
    regions = [{"id": one, "label": f"{one} it is"} for one in order]
    edit = PlantEdit(section="inspection", id="stains", values={"region": regions})
    made = edit_text(REGIONS, edit)
    assert tomllib.loads(made)["inspection"][0]["region"] == regions
    comments = {
        "a1": ("# What is left.\n[[inspection.region]]\n", 'id = "a1"   # left\n'),
        "a2": ("# What is right.\n[[inspection.region]]\n", "# The end of it.\n"),
        "a3": ("# What is behind.\n[[inspection.region]]\n", "# in the shade\n"),
    }
    for name, words in comments.items():
        assert [one in made for one in words] == [name in order] * 2
    assert made.endswith("\n[inspection.view] # as taken\nwidth_px = 10\n")


def test_regions_as_they_are_leave_the_text_as_it_is() -> None:
    regions = tomllib.loads(REGIONS)["inspection"][0]["region"]
    edit = PlantEdit(section="inspection", id="stains", values={"region": regions})
    assert edit_text(REGIONS, edit) == REGIONS


def test_a_key_below_a_text_takes_its_place() -> None:
    edit = PlantEdit(section="camera", id="side", values={"line.name": "Press"})
    assert changed(edit)["camera"][1]["line"] == {"name": "Press"}


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (PlantEdit(section="camera", id="none", remove=True), NotFoundError),
        (PlantEdit(section="camera", values={"id": "top"}), ConflictError),
        (PlantEdit(section="rule", id="often", text="[[rule]]\nid='a'\n[[rule]]\n"), InvalidError),
        (PlantEdit(section="line", id="press", text="name = "), InvalidError),
    ],
)
def test_an_edit_that_fits_nothing_is_refused(edit: PlantEdit, error: type[Exception]) -> None:
    with pytest.raises(error):
        edit_text(TEXT, edit)


def test_entries_on_one_line_are_left_to_a_person() -> None:
    with pytest.raises(InvalidError, match="cannot be edited in place"):
        edit_text('camera = [{ id = "a" }]\n', PlantEdit(section="camera", id="a", remove=True))


def test_entries_on_one_line_have_no_lines_of_their_own() -> None:
    assert not entry_text('shift = [{ name = "Early" }]\n', "shift", "Early")


def test_one_of_two_entries_of_a_name_is_not_guessed() -> None:
    text = '[[shift]]\nname = "Early"\n\n[[shift]]\nname = "Early"\n'
    edit = PlantEdit(section="shift", id="Early", values={"begin": "06:00"})
    for nth in (0, 3):
        with pytest.raises(InvalidError, match="2 shift entries 'Early'"):
            edit_text(text, replace(edit, nth=nth))
    made = edit_text(text, replace(edit, nth=2))
    assert tomllib.loads(made)["shift"] == [{"name": "Early"}, {"name": "Early", "begin": "06:00"}]
    third = PlantEdit(section="shift", values={"name": "Early", "begin": "14:00"})
    assert len(changed(third, made)["shift"]) == 3


def test_a_section_of_one_table_is_added_changed_and_taken_away() -> None:
    slots = [{"id": "A1", "region": "a1"}, {"id": "A2", "region": "a2"}]
    values = {"inspection": "stains", "slot": slots, "order.topic": "o"}
    made = edit_text(TEXT, PlantEdit(section="twin", values=values))
    assert made.startswith(TEXT)
    wanted = {"inspection": "stains", "slot": slots, "order": {"topic": "o"}}
    assert tomllib.loads(made)["twin"] == wanted
    made = made.replace('region = "a2"', 'region = "a2"  # on the right')
    edit = PlantEdit(section="twin", values={"slot": slots[1:], "order.topic": None})
    fewer = edit_text(made, edit)
    assert tomllib.loads(fewer)["twin"] == {"inspection": "stains", "slot": slots[1:]}
    assert 'region = "a2"  # on the right' in fewer
    gone = edit_text(fewer, PlantEdit(section="twin", remove=True))
    assert tomllib.loads(gone) == tomllib.loads(TEXT)


@pytest.mark.parametrize("value", [[{"id": None}], {"a": None}, [[None]]])
def test_null_inside_a_value_is_refused(value: object) -> None:
    with pytest.raises(InvalidError, match="null inside a value"):
        PlantEdit(section="inspection", id="stains", values={"region": value})


VALUES = st.one_of(
    st.text(max_size=12), st.integers(-(2**40), 2**40), st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.lists(st.text(max_size=5), max_size=3),
)  # fmt: skip
KEYS = st.sampled_from(["name", "line", "source", "note", "labels", "trigger.on", "view.width_px"])
EDITS = st.builds(
    lambda where, values: PlantEdit(section=where[0], id=where[1], values=values),
    st.sampled_from(
        [("line", "press"), ("camera", "top"), ("camera", "side"), ("inspection", "stains")]
    ),
    st.dictionaries(KEYS, st.one_of(st.none(), VALUES), min_size=1, max_size=4),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(EDITS, min_size=1, max_size=4))
def test_any_edits_give_what_they_say_and_leave_the_other_entries(edits: list[PlantEdit]) -> None:
    text, wanted = TEXT, tomllib.loads(TEXT)
    for edit in edits:
        text = edit_text(text, edit)
        entry = next(one for one in wanted[edit.section] if one["id"] == edit.id)
        for key, value in edit.values.items():
            first, _, further = key.partition(".")
            if not further:
                entry.pop(first, None)
                entry |= {} if value is None else {first: value}
            elif value is not None:
                inner = entry.get(first)
                entry[first] = {**(inner if isinstance(inner, dict) else {}), further: value}
            elif isinstance(entry.get(first), dict):
                entry[first].pop(further, None)
                if not entry[first]:
                    del entry[first]
    assert tomllib.loads(text) == wanted
    touched = {edit.id for edit in edits}
    for section, name in (("line", "press"), ("camera", "top"), ("camera", "side"),
                          ("inspection", "stains"), ("rule", "often")):  # fmt: skip
        if name not in touched:
            assert entry_text(text, section, name) == entry_text(TEXT, section, name)
