"""The plant file: what is declared, what is refused, and that all of it is said at once."""

import tomllib
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import (
    Box,
    Fault,
    Inspection,
    InvalidError,
    NotFoundError,
    Plant,
    Region,
    RouteKind,
    Task,
    View,
    decode,
    encode,
    load_plant,
    parse_plant,
)
from lineside.core.drivers import SecretUrl
from lineside.core.outputs import MessageConfig
from lineside.core.plant_check import check_references, plant_schema
from lineside.core.webhooks import WebhookConfig
from lineside.links.opening import CAMERAS

EXAMPLES = Path(__file__).parents[2] / "examples" / "warehouse"
SMALL = """
schema = "lineside.plant/1"
site = "demo"
[[line]]
id = "west"
name = "West"
[[camera]]
id = "rack"
line = "west"
source = "mqtt:i/cam"
[[inspection]]
id = "stock"
camera = "rack"
[inspection.view]
width_px = 100
height_px = 80
[[inspection.region]]
id = "A1"
classes = ["empty", "blue", "red"]
box_px = { x0_px = 1, y0_px = 2, x1_px = 20, y1_px = 30 }
[[inspection.region]]
id = "A2"
label = "lid"
box_px = { x0_px = 31, y0_px = 2, x1_px = 50, y1_px = 30 }
[[route]]
topic = "i/cam"
kind = "frame"
camera = "rack"
[twin]
inspection = "stock"
colours = ["blue", "red"]
[[twin.slot]]
id = "A1"
region = "A1"
[[twin.slot]]
id = "A2"
region = "A2"
colour = "red"
[[twin.station]]
id = "w"
name = "Warehouse"
code = "hbw"
"""


def faults_of(text: str) -> list[Fault]:
    with pytest.raises(InvalidError) as caught:
        parse_plant(text.encode(), where="plant.toml")
    assert caught.value.where == "plant.toml"
    return list(caught.value.faults)


def paths_of(text: str) -> list[str]:
    return [fault.path for fault in faults_of(text)]


def changed(old: str, new: str) -> str:
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new)


def test_a_small_plant_reads() -> None:
    plant = parse_plant(SMALL.encode(), where="plant.toml")
    assert plant.find_camera("rack").source == "mqtt:i/cam"
    inspection = plant.find_inspection("stock")
    assert [region.answers for region in inspection.region] == [
        ("empty", "blue", "red"), ("lid",),
    ]  # fmt: skip
    assert list(check_references(plant)) == []
    assert decode(Plant, encode(plant), where="") == plant


@pytest.mark.parametrize("name", ["plant.toml", "real.toml"])
def test_the_examples_read_without_a_fault(name: str) -> None:
    plant = load_plant(EXAMPLES / name)
    assert plant.twin is not None
    assert {route.kind for route in plant.route} == set(RouteKind)
    assert plant.find_inspection("stock").endpoint == "smart-factory-wh-stock-inference"


@pytest.mark.parametrize("name", ["plant.toml", "real.toml"])
def test_the_examples_satisfy_the_editors_schema(name: str) -> None:
    import jsonschema

    document = tomllib.loads((EXAMPLES / name).read_text())
    jsonschema.Draft202012Validator(plant_schema()).validate(document)


def test_the_editors_schema_takes_durations_with_units_as_the_reader_does() -> None:
    import jsonschema

    validator = jsonschema.Draft202012Validator(plant_schema())
    for text, sound in (('"10 min"', True), ("600", True), ('"ten"', False), ("true", False)):
        document = f"{SMALL}\n[twin.order]\ntime_out_s = {text}"
        assert validator.is_valid(tomllib.loads(document)) is sound, text
        if sound:
            parse_plant(document.encode(), where="plant.toml")
        else:
            assert paths_of(document) == ["$.twin.order.time_out_s"]


@pytest.mark.parametrize(
    ("old", "new"),
    [('kind = "frame"', 'kind = "frames"'), ("width_px = 100", 'width_px = "100"'),
     ('site = "demo"', 'sight = "demo"'), ('code = "hbw"', 'code = "hbw"\nshape = "tower"')],
)  # fmt: skip
def test_the_editors_schema_refuses_what_the_reader_refuses(old: str, new: str) -> None:
    import jsonschema

    validator = jsonschema.Draft202012Validator(plant_schema())
    validator.check_schema(plant_schema())
    assert validator.is_valid(tomllib.loads(SMALL))
    text = changed(old, new)
    assert not validator.is_valid(tomllib.loads(text))
    assert faults_of(text)


def test_the_real_racks_regions_hold_the_measured_pieces() -> None:
    inspection = load_plant(EXAMPLES / "real.toml").find_inspection("stock")
    centres = {"blue": (67, 43), "red": (73, 94), "white": (77, 145)}
    assert [region.label for region in inspection.region] == ["blue", "red", "white"]
    for region in inspection.region:
        x, y = centres[region.label]
        box = region.box_px
        assert box.x0_px <= x - 12.5
        assert x + 12.5 <= box.x1_px
        assert box.y0_px <= y - 5.5
        assert y + 5.5 <= box.y1_px


def test_ten_faults_are_said_at_once_of_form_and_of_reference() -> None:
    text = (
        SMALL.replace('name = "West"', "name = 7")
        .replace('line = "west"', 'line = "wst"')
        .replace('source = "mqtt:i/cam"', 'source = "cam"')
        .replace("width_px = 100", "widht_px = 100")
        .replace('label = "lid"', 'label = "lid"\nclasses = ["a", "b"]')
        .replace('kind = "frame"', 'kind = "frames"')
        .replace('colour = "red"\n[[twin.station]]', 'colour = "rde"\n[[twin.station]]')
        .replace('code = "hbw"', 'code = "hbw"\nshape = "tower"')
        .replace('schema = "lineside.plant/1"', 'schema = "lineside.plant/9"')
        .replace('[twin]\ninspection = "stock"', '[twin]\ninspection = "stok"')
        .replace('site = "demo"', 'site = "demo"\nbus = "mqtt://x"')
    )
    found = {fault.path: fault for fault in faults_of(text)}
    assert set(found) >= {
        "$.bus",
        "$.schema",
        "$.line[0].name",
        "$.camera[0].source",
        "$.inspection[0].view.widht_px",
        "$.inspection[0].view.width_px",
        "$.inspection[0].region[1]",
        "$.route[0].kind",
        "$.twin.station[0].shape",
        "$.twin.inspection",
    }
    assert len(found) >= 10
    assert "Did you mean 'width_px'?" in found["$.inspection[0].view.widht_px"].fix
    assert "Did you mean 'frame'?" in found["$.route[0].kind"].fix
    assert "Did you mean 'stock'?" in found["$.twin.inspection"].fix
    assert all(fault.fix for fault in found.values())


def test_a_fault_of_form_hides_no_fault_of_reference() -> None:
    text = changed('name = "West"', "name = 7").replace('line = "west"', 'line = "wst"')
    assert paths_of(text) == ["$.line[0].name", "$.camera[0].line"]
    assert "Did you mean 'west'?" in faults_of(text)[1].fix


def test_an_entry_that_cannot_be_built_is_still_known_by_its_id() -> None:
    text = changed('source = "mqtt:i/cam"', "source = 3")
    assert paths_of(text) == ["$.camera[0].source"]


def test_a_default_put_in_for_a_faulty_value_raises_no_second_fault() -> None:
    text = changed('colour = "red"\n', "colour = 3\n")
    assert paths_of(text) == ["$.twin.slot[1].colour"]


@pytest.mark.parametrize("text", ["", "site = 3", "twin = 3", "line = 4\ncamera = [3]"])
def test_a_file_that_is_hardly_a_plant_is_refused_with_faults(text: str) -> None:
    assert "$.schema" in paths_of(text)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('line = "west"', 'line = "east"', "$.camera[0].line"),
        ('camera = "rack"\n[inspection.view]', 'camera = "belt"\n[inspection.view]',
         "$.inspection[0].camera"),
        ("x1_px = 50", "x1_px = 101", "$.inspection[0].region[1].box_px"),
        ("x0_px = 31", "x0_px = -1", "$.inspection[0].region[1].box_px"),
        ('camera = "rack"\n[twin]', 'camera = "rak"\n[twin]', "$.route[0].camera"),
        ('camera = "rack"\n[twin]', "[twin]", "$.route[0].camera"),
        ('inspection = "stock"', 'inspection = "stocks"', "$.twin.inspection"),
        ('region = "A2"', 'region = "A3"', "$.twin.slot[1].region"),
        ('colour = "red"\n', "\n", "$.twin.slot[1].colour"),
        ('colour = "red"\n', 'colour = "green"\n', "$.twin.slot[1].colour"),
        ('colours = ["blue", "red"]', 'colours = ["red"]', "$.twin.slot[0].region"),
        ('site = "demo"', 'site = "de/mo"', "$.site"),
        ('id = "west"', 'id = "we st"', "$.line[0].id"),
        ('id = "west"', 'id = "wall"', "$.line[0].id"),
        ('label = "lid"', 'label = "a/b"', "$.inspection[0].region[1].label"),
        ('"blue", "red"]\nbox', '"blue", "red", " "]\nbox', "$.inspection[0].region[0].classes"),
        ('code = "hbw"', 'code = "h#"', "$.twin.station[0].code"),
    ],
)  # fmt: skip
def test_a_reference_that_leads_nowhere_is_named(old: str, new: str, path: str) -> None:
    assert path in paths_of(changed(old, new))


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ('[[line]]\nid = "west"\nname = "W"\n', "$.line"),
        ('[[camera]]\nid = "rack"\nline = "west"\nsource = "v4l:0"\n', "$.camera"),
        ('[[inspection]]\nid = "stock"\ncamera = "rack"\nlabels = ["ok"]\n', "$.inspection"),
        (
            '[[inspection]]\nid = "lid"\ncamera = "rack"\nlabels = ["ok", "ok"]\n',
            "$.inspection[1].labels",
        ),
        (
            '[[inspection]]\nid = "lid"\ncamera = "rack"\nlabels = ["o/k"]\n',
            "$.inspection[1].labels[0]",
        ),
        ('[[route]]\ntopic = "i/cam"\nkind = "message"\n', "$.route"),
        ('[[twin.slot]]\nid = "A1"\nregion = "A1"\n', "$.twin.slot"),
        ('[[twin.station]]\nid = "v"\nname = "V"\ncode = "hbw"\n', "$.twin.station"),
        ('[[twin.station]]\nid = "w"\nname = "V"\ncode = "vgr"\n', "$.twin.station"),
    ],
)
def test_a_name_used_twice_is_named(more: str, path: str) -> None:
    head, twin = SMALL.split("[twin]")
    text = SMALL + more if "twin" in more else head + more + "[twin]" + twin
    assert path in paths_of(text)


def test_two_inspections_cannot_answer_at_one_endpoint() -> None:
    second = '[[inspection]]\nid = "lid"\ncamera = "rack"\nlabels = ["ok"]\nendpoint = "e"\n'
    text = changed(
        'camera = "rack"\n[inspection.view]', 'camera = "rack"\nendpoint = "e"\n[inspection.view]'
    )
    head, twin = text.split("[twin]")
    assert paths_of(head + second + "[twin]" + twin) == ["$.inspection"]


@pytest.mark.parametrize(
    ("old", "new", "path", "expected"),
    [
        ("x1_px = 20", "x1_px = 1", "$.inspection[0].region[0].box_px", "x0_px < x1_px"),
        ("y1_px = 30 }\n[[inspection.region]]", "y1_px = nan }\n[[inspection.region]]",
         "$.inspection[0].region[0].box_px.y1_px", "a number"),
        ('label = "lid"', "", "$.inspection[0].region[1]", "either label or classes"),
        ('["empty", "blue", "red"]', '["empty"]', "$.inspection[0].region[0].classes",
         "two or more"),
        ('["empty", "blue", "red"]', '["red", "red"]', "$.inspection[0].region[0].classes",
         "different"),
        ("width_px = 100", "width_px = 0", "$.inspection[0].view.width_px", "above 0"),
        ("width_px = 100", "width_px = 100\nmax_shift_share = 2",
         "$.inspection[0].view.max_shift_share", "between 0 and 1"),
        ("[inspection.view]\nwidth_px = 100\nheight_px = 80\n", "", "$.inspection[0].view",
         "regions with a view"),
        ('camera = "rack"\n[inspection.view]', 'camera = "rack"\nlabels = ["x"]\n[inspection.view]',
         "$.inspection[0].labels", "labels only"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\ntrigger = { on = "interval" }\n[inspection.view]',
         "$.inspection[0].trigger.interval_s", "above 0"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\ntrigger = { on = "topic" }\n[inspection.view]',
         "$.inspection[0].trigger.topic", "a topic"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\npolicy = { error_rate = 1.5 }\n[inspection.view]',
         "$.inspection[0].policy.error_rate", "between 0 and 1"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\npolicy = { present_above = -0.1 }\n[inspection.view]',
         "$.inspection[0].policy.present_above", "between 0 and 1"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\npolicy = { escape_cost = 0 }\n[inspection.view]',
         "$.inspection[0].policy.escape_cost", "above 0"),
        ('source = "mqtt:i/cam"', 'source = "mqtt:"', "$.camera[0].source", "a topic after mqtt:"),
        ('source = "mqtt:i/cam"', 'source = "v4l:one"', "$.camera[0].source", "a number after"),
        ('source = "mqtt:i/cam"', 'source = "rtsp://"', "$.camera[0].source", "//host after"),
        ('source = "mqtt:i/cam"', 'source = "https://"', "$.camera[0].source", "//host/path after"),
        ('source = "mqtt:i/cam"', 'source = "mqtt:i/cam"\nevery_s = 2', "$.camera[0].every_s",
         "with a source aravis or http or https only"),
        ('source = "mqtt:i/cam"', 'source = "mqtt:i/cam"\ntrigger = "software"',
         "$.camera[0].trigger", "with a source aravis or http or https only"),
        ('source = "mqtt:i/cam"', 'source = "http://h/x.jpg"\ntrigger = "Line1"',
         "$.camera[0].trigger", "a line of an aravis camera"),
        ('source = "mqtt:i/cam"', 'source = "http://h/x.jpg"\nexposure_us = 5',
         "$.camera[0].exposure_us", "with a source aravis only"),
        ('source = "mqtt:i/cam"', 'source = "v4l:0"\npart_id = "ChunkCounterValue"',
         "$.camera[0].part_id", "with a source aravis only"),
        ('source = "mqtt:i/cam"', 'source = "aravis://A-1"\npart_id = "Line1"',
         "$.camera[0].part_id", "the name of a chunk feature"),
        ('source = "mqtt:i/cam"', 'source = "rtsp://h/x"\nrotate_deg = 45',
         "$.camera[0].rotate_deg", "0, 90, 180 or 270"),
        ('source = "mqtt:i/cam"', 'source = "mqtt:i/cam"\nrotate_deg = 90',
         "$.camera[0].source", "a source whose images are rotated or cropped here"),
        ('source = "mqtt:i/cam"',
         'source = "mqtt:i/cam"\ncrop_px = { x0_px = 0, y0_px = 0, x1_px = 9, y1_px = 9 }',
         "$.camera[0].source", "a source whose images are rotated or cropped here"),
        ('source = "mqtt:i/cam"',
         'source = "rtsp://h/x"\ncrop_px = { x0_px = 0.5, y0_px = 0, x1_px = 9, y1_px = 9 }',
         "$.camera[0].crop_px.x0_px", "a whole number from 0 on"),
        ('source = "mqtt:i/cam"',
         'source = "rtsp://h/x"\ncrop_px = { x0_px = 0, y0_px = -1, x1_px = 9, y1_px = 9 }',
         "$.camera[0].crop_px.y0_px", "a whole number from 0 on"),
        ('source = "mqtt:i/cam"', 'source = "http://h/x.jpg"\nevery_s = 0', "$.camera[0].every_s",
         "above 0"),
        ('source = "mqtt:i/cam"', 'source = "telepathy:x"', "$.camera[0].source", "can open"),
        ('source = "mqtt:i/cam"', 'source = "cam"', "$.camera[0].source", "can open"),
        ('source = "mqtt:i/cam"', 'source = "mqtt:i/cam"\nno_signal_after_s = -1',
         "$.camera[0].no_signal_after_s", "above 0"),
        ("width_px = 100", "width_px = 100\nmax_rotation_deg = -20",
         "$.inspection[0].view.max_rotation_deg", "between 0 and 180"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nmax_age_s = -60\n[inspection.view]',
         "$.inspection[0].max_age_s", "above 0"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nmax_skew_s = -1\n[inspection.view]',
         "$.inspection[0].max_skew_s", "0 or more"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nendpoint = "a/b"\n[inspection.view]',
         "$.inspection[0].endpoint", "an id"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nendpoint_threshold = 1.0\n[inspection.view]',
         "$.inspection[0].endpoint_threshold", "below 1"),
        ('name = "West"', 'name = "West"\nwait_s = 0', "$.line[0].wait_s", "above 0"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nreject = ["lit"]\n[inspection.view]',
         "$.inspection[0].reject", "labels of this inspection"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nreject = ["lid"]\ngood = ["lid"]\n[inspection.view]',
         "$.inspection[0].reject", "not good"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nexpected = ["lid", "blue"]\n[inspection.view]',
         "$.inspection[0].expected", "names that this inspection answers"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\nexpected_count = 3\n[inspection.view]',
         "$.inspection[0].expected_count", "of the task count only"),
        ('camera = "rack"\n[inspection.view]',
         'camera = "rack"\ntrigger = { interval_s = -1 }\n[inspection.view]',
         "$.inspection[0].trigger.interval_s", "0 or more"),
        ('colours = ["blue", "red"]', 'colours = ["blue", "red"]\nstale_after_s = 0',
         "$.twin.stale_after_s", "above 0"),
        ('colours = ["blue", "red"]', 'colours = ["blue", "red"]\ndiscrepancy_after_s = -3',
         "$.twin.discrepancy_after_s", "0 or more"),
        ('colours = ["blue", "red"]', 'colours = ["blue", "red"]\norder = { topic = "f/+/order" }',
         "$.twin.order.topic", "a topic to publish on"),
        ('source = "mqtt:i/cam"', 'source = "mqtt:i/cam"\nmax_frame_bytes = 0',
         "$.camera[0].max_frame_bytes", "above 0"),
        ('topic = "i/cam"', 'topic = "i/#/cam"', "$.route[0].topic", "a topic pattern"),
        ('topic = "i/cam"', 'topic = "i/cam+"', "$.route[0].topic", "a topic pattern"),
        ('topic = "i/cam"', 'topic = ""', "$.route[0].topic", "a topic pattern"),
        ('topic = "i/cam"', 'topic = "i/cam"\nmax_bytes = 0', "$.route[0].max_bytes", "above 0"),
        ('colours = ["blue", "red"]', 'colours = ["blue", "red"]\norder = { time_out_s = 0 }',
         "$.twin.order.time_out_s", "above 0"),
    ],
)  # fmt: skip
def test_a_value_no_record_can_hold_is_named(old: str, new: str, path: str, expected: str) -> None:
    found = {fault.path: fault for fault in faults_of(changed(old, new))}
    assert expected in found[path].expected


def test_every_fault_of_one_record_is_said_at_once() -> None:
    text = changed('source = "mqtt:i/cam"', 'source = "telepathy:x"\nmax_frame_bytes = -1')
    text = text.replace(
        "width_px = 100", "width_px = 0\nmax_shift_share = 2\nmax_rotation_deg = -1"
    )
    assert paths_of(text) == [
        "$.camera[0].source",
        "$.camera[0].max_frame_bytes",
        "$.inspection[0].view.width_px",
        "$.inspection[0].view.max_shift_share",
        "$.inspection[0].view.max_rotation_deg",
    ]


def test_a_key_that_cannot_be_read_hides_no_value_that_cannot_be_held() -> None:
    text = changed("width_px = 100", 'width_px = 100\nregister = "yes"\nmax_rotation_deg = -20')
    assert paths_of(text) == [
        "$.inspection[0].view.register", "$.inspection[0].view.max_rotation_deg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [("max_age_s", "-60", "Write max_age_s = 60.0, say."),
     ("max_skew_s", "-1", "Write max_skew_s = 5.0, say.")],
)  # fmt: skip
def test_the_mend_names_a_value_that_works(key: str, value: str, fix: str) -> None:
    here = 'camera = "rack"\n[inspection.view]'
    told = here.replace("\n", f"\n{key} = {value}\n")
    assert [fault.fix for fault in faults_of(changed(here, told))] == [fix]


@pytest.mark.parametrize(
    ("source", "silent_after_s"),
    [("mqtt:i/cam", inf), ("folder:f", inf), ("http-push://h:1", inf), ("rtsp://h", 4.0),
     ('http://h/x.jpg"\ntrigger = "software', inf), ('mqtt:i/cam"\nno_signal_after_s = "8 s', 8.0)],
)  # fmt: skip
def test_a_camera_whose_images_come_on_events_may_be_silent(
    source: str, silent_after_s: float
) -> None:
    plant = parse_plant(changed("mqtt:i/cam", source).encode(), where="plant")
    assert plant.camera[0].silent_after_s == silent_after_s


@pytest.mark.parametrize("figure", ["max_age_s = 0.5", "max_skew_s = 0"])
def test_a_small_figure_that_works_is_taken(figure: str) -> None:
    here = 'camera = "rack"\n[inspection.view]'
    text = changed(here, here.replace("\n", f"\n{figure}\n"))
    assert parse_plant(text.encode(), where="").inspection


@pytest.mark.parametrize("scheme", sorted(CAMERAS))
def test_the_known_sources_are_those_that_can_be_opened(scheme: str) -> None:
    text = changed('source = "mqtt:i/cam"', f'source = "{scheme}:0"')
    assert parse_plant(text.encode(), where="").camera
    assert f" {scheme}" in faults_of(changed("mqtt:i/cam", "telepathy:x"))[0].fix


def test_a_fault_of_a_source_shows_no_password() -> None:
    (fault,) = faults_of(changed("mqtt:i/cam", "ftp://eve:secret@cam/"))
    assert "secret" not in str(fault)
    assert "cam" in fault.value


def test_a_record_made_in_code_says_all_its_faults_too() -> None:
    with pytest.raises(InvalidError, match="1 more") as caught:
        View(width_px=0, height_px=-1)
    assert caught.value.where == "view.width_px"
    assert [fault.path for fault in caught.value.faults] == ["width_px", "height_px"]


def test_a_frame_route_takes_whatever_its_camera_may_send() -> None:
    small = parse_plant(SMALL.encode(), where="")
    assert small.limit_bytes(small.route[0]) == 4 * ((8_000_000 + 2) // 3) + 4096
    told = parse_plant(
        changed('topic = "i/cam"', 'topic = "i/cam"\nmax_bytes = 5').encode(), where=""
    )
    assert told.limit_bytes(told.route[0]) == 5
    other = parse_plant(
        changed('kind = "frame"\ncamera = "rack"\n[twin]', 'kind = "sensor"\n[twin]').encode(),
        where="",
    )
    assert other.limit_bytes(other.route[0]) == 1_000_000


@pytest.mark.parametrize("topic", ["#", "+", "f/i/state/+", "f/#", "+/i/+/x"])
def test_every_pattern_of_mqtt_is_taken(topic: str) -> None:
    text = changed('topic = "i/cam"', f'topic = "{topic}"')
    assert parse_plant(text.encode(), where="").route[0].topic == topic


def test_an_inspection_needs_something_to_answer() -> None:
    text = SMALL + '[[inspection]]\nid = "none"\ncamera = "rack"\n'
    assert any("answers something" in fault.expected for fault in faults_of(text))


def test_a_name_that_is_not_declared_is_refused_with_the_known_ones() -> None:
    plant = parse_plant(SMALL.encode(), where="")
    with pytest.raises(InvalidError, match="Did you mean 'rack'"):
        plant.find_camera("rak")
    with pytest.raises(InvalidError, match="Known: stock"):
        plant.find_inspection("x")


def test_a_file_that_cannot_be_read_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(NotFoundError) as caught:
            load_plant(path)
        assert caught.value.where == str(path)


@given(st.data())
def test_a_mutated_plant_is_refused_with_sentences_or_still_a_plant(data: st.DataObject) -> None:
    raw = bytearray(SMALL.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(32, 126))
    try:
        parse_plant(bytes(raw), where="p")
    except InvalidError as error:
        refused = error
    else:
        return
    assert refused.where == "p"
    assert refused.fix
    assert all(fault.path.startswith("$") and fault.fix for fault in refused.faults)


def test_good_labels_are_labels_of_the_inspection() -> None:
    box = Box(x0_px=1, y0_px=1, x1_px=9, y1_px=9)
    regions = (
        Region(id="a", box_px=box, label="lid"),
        Region(id="b", box_px=box, classes=("red", "none")),
    )
    view = View(width_px=20, height_px=20)
    found = Inspection(id="x", camera="c", region=regions, view=view, good=("none", "lid"))
    assert found.known_labels == {"lid", "red", "none"}
    with pytest.raises(InvalidError, match="good"):
        Inspection(id="x", camera="c", labels=("dent",), good=("fine",))
    assert Inspection(id="x", camera="c", task=Task.ANOMALY, good=("i.O.",)).good == ("i.O.",)


def test_files_and_folders_of_cameras_are_seen_from_the_plant_files_folder(
    tmp_path: Path,
) -> None:
    sources = [
        "folder:pictures?move=done",
        "folder:/var/pictures",
        "video:clips/a.mp4",
        "mqtt:i/cam",
    ]
    cameras = "".join(
        f'[[camera]]\nid = "c{number}"\nline = "belt"\nsource = "{source}"\n'
        for number, source in enumerate(sources)
    )
    path = tmp_path / "plant.toml"
    path.write_text(
        'schema = "lineside.plant/1"\nsite = "hall"\nname = "Hall"\n'
        f'[[line]]\nid = "belt"\nname = "Belt"\n{cameras}'
    )
    assert [camera.source for camera in load_plant(path).camera] == [
        f"folder:{tmp_path}/pictures?move=done",
        "folder:/var/pictures",
        f"video:{tmp_path}/clips/a.mp4",
        "mqtt:i/cam",
    ]


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("https://MES.lan/in", "mes.lan"),
        ("https://mes.lan:443/in", "mes.lan"),
        ("https://mes.lan:8443/in", "mes.lan:8443"),
        ("http://mes.lan/in", "http:mes.lan:80"),
        ("http://mes.lan:443/in", "http:mes.lan:443"),
        ("https://http:80/in", "http:80"),
        ("https://[::1]/in", "[::1]"),
        ("https://[::1]:2/in", "[::1]:2"),
        ("https://[::1:2]/in", "[::1:2]"),
    ],
)
def test_each_origin_of_webhooks_has_a_folder_of_its_own(url: str, folder: str) -> None:
    hook = WebhookConfig(name="mes", url=SecretUrl(url), ca="mes.pem")
    assert hook.in_folder(Path("/secrets")).ca == f"/secrets/{folder}/mes.pem"


def test_a_webhook_names_no_file_outside_its_folder_and_no_secret() -> None:
    hook = '[[webhook]]\nname = "mes"\nurl = "https://mes/in"\n'
    for secret in ("me:geheim@mes/in", "me:a/geheim@mes/in", "mes:in?key=geheim"):
        (fault,) = faults_of(f"{SMALL}{hook.replace('mes/in', secret)}")
        assert fault.path == "$.webhook[0].url"
        assert "geheim" not in str(fault)
    twice, outside = faults_of(f'{SMALL}{hook}{hook}ca = "/etc/ca.pem"\n')
    assert (twice.path, outside.path) == ("$.webhook", "$.webhook[1].ca")
    assert "secrets/mes of" in outside.expected
    above = hook.replace("//mes/", "//../")
    assert paths_of(f'{SMALL}{above}ca = "ca.pem"\n') == ["$.webhook[0].url"]
    assert paths_of(f"{SMALL}[retention]\nmax_bytes = -1\n") == ["$.retention.max_bytes"]


OUTPUT = """
[[output]]
id = "gate"
line = "west"
url = "modbus://plc.lan:502?unit=3"
switch = "coil/12"
fail_safe = 1
delay_s = "600 ms"
heartbeat = "register/40"
"""


def test_an_output_is_read() -> None:
    (gate,) = parse_plant(f"{SMALL}{OUTPUT}".encode(), where="plant").output
    assert (gate.delay_s, gate.on) == (0.6, ("reject", "review", "incomplete"))
    direct = OUTPUT.replace("unit=3", "unit=255")  # as servers want it that have no units behind
    assert parse_plant(f"{SMALL}{direct}".encode(), where="plant").output


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('line = "west"\nurl', 'line = "wset"\nurl', "$.output[0].line"),
        ('id = "gate"', 'id = "gate:"', "$.output[0].id"),
        ("fail_safe = 1\n", "", "$.output[0].fail_safe"),
        ("fail_safe = 1", "fail_safe = 2", "$.output[0].fail_safe"),
        ("fail_safe = 1", "fail_safe = 1\nrest = 1", "$.output[0].rest"),
        ("fail_safe = 1", "fail_safe = 1\non = []", "$.output[0].on"),
        ("fail_safe = 1", 'fail_safe = 1\non = ["bad"]', "$.output[0].on[0]"),
        ("fail_safe = 1", 'fail_safe = 1\ncamera = "belt"', "$.output[0].camera"),
        ("fail_safe = 1", "fail_safe = 1\npulse_s = -1", "$.output[0].pulse_s"),
        ("fail_safe = 1", "fail_safe = 1\nheartbeat_s = 0", "$.output[0].heartbeat_s"),
        ("register/40", "coil/12", "$.output[0].heartbeat"),
        ("coil/12", "coil/65536", "$.output[0].switch"),
        ("coil/12", "input/12", "$.output[0].switch"),
        ("coil/12", "coil/012", "$.output[0].switch"),
        ("modbus://plc.lan:502?unit=3", "profinet://plc", "$.output[0].url"),
        ("modbus://plc.lan:502?unit=3", "modbus://", "$.output[0].url"),
        ("modbus://plc.lan:502?unit=3", "modbus://plc?unit=256", "$.output[0].url"),
        ("modbus://plc.lan:502?unit=3", "modbus://plc:port", "$.output[0].url"),
        ("modbus://plc.lan:502?unit=3", "gpio:///dev/gpiochip0", "$.output[0].switch"),
        ("[[inspection]]", "[[inspection]]\nverdict = false", "$.output[0].line"),
        ("fail_safe = 1", 'fail_safe = 1\nmessage = { on = "ON" }', "$.output[0].message"),
    ],
)  # fmt: skip
def test_a_fault_of_an_output_is_named(old: str, new: str, path: str) -> None:
    assert path in paths_of(f"{SMALL}{OUTPUT}".replace(old, new, 1))


TOPIC = OUTPUT.replace("modbus://plc.lan:502?unit=3", "mqtt:").replace("coil/12", "west/gate")
TOPIC = TOPIC.replace("register/40", "west/alive")


@pytest.mark.parametrize(
    "url", ["mqtt:", "mqtt://line:geheim@broker", "mqtts://broker?ca=/etc/ca.pem&version=5"]
)
def test_an_output_on_a_topic_is_read(url: str) -> None:
    made = TOPIC.replace("mqtt:", url)
    words = 'message = { on = "OPEN", off = "SHUT", qos = 2, retain = false }\n'
    (gate,) = parse_plant(f"{SMALL}{made}{words}".encode(), where="plant").output
    assert gate.message == MessageConfig(on="OPEN", off="SHUT", qos=2, retain=False)
    assert gate.bus_topics == (("west/gate", "west/alive") if url == "mqtt:" else ())


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("west/gate", "west/+", "$.output[0].switch"),
        ("west/gate", "$SYS/gate", "$.output[0].switch"),
        ("west/gate", "west\\ntopic readwrite x", "$.output[0].switch"),
        ("west/gate", "lineside/hall/west/gate", "$.output[0].switch"),
        ("west/alive", "edge-manager-app/logs/edge-1", "$.output[0].heartbeat"),
        ("fail_safe = 1", "fail_safe = 2", "$.output[0].fail_safe"),
        ("fail_safe = 1", 'fail_safe = 1\nmessage = { off = "1" }', "$.output[0].message.off"),
        ("fail_safe = 1", "fail_safe = 1\nmessage = { qos = 3 }", "$.output[0].message.qos"),
        ('"mqtt:"', '"mqtt:west"', "$.output[0].url"),
        ('"mqtt:"', '"mqtt://broker/west"', "$.output[0].url"),
        ('"mqtt:"', '"mqtt://a:geheim@broker?unit=1"', "$.output[0].url"),
        ('delay_s = "600 ms"', 'handshake = { trigger = "a", acknowledge = "b", done = "c" }',
         "$.output[0].handshake"),
    ],
)  # fmt: skip
def test_a_fault_of_an_output_on_a_topic_is_named(old: str, new: str, path: str) -> None:
    (fault,) = faults_of(f"{SMALL}{TOPIC}".replace(old, new, 1))
    assert fault.path == path
    assert "geheim" not in str(fault)


NODE = OUTPUT.replace("modbus://plc.lan:502?unit=3", "opc.tcp://plc.lan/line")
NODE = NODE.replace('"coil/12"', """'ns=3;s="Gate"."Reject"'""").replace("register/40", "i=40")
FILES = "?certificate=/a.pem&key=/b.pem&server=/c.pem"


def test_an_output_on_opc_ua_is_read_also_with_a_handshake_user_and_certificates() -> None:
    shake = "handshake = { trigger = 'ns=3;i=1', acknowledge = 'ns=3;i=2', done = 'ns=3;i=3' }\n"
    asked = f"{SMALL}{NODE}{shake}".replace('delay_s = "600 ms"\n', "")
    asked = asked.replace("plc.lan/line", f"anna:geheim@plc.lan:4841/line{FILES}")
    asked = asked.replace("fail_safe = 1", "fail_safe = 65535")  # of a number
    (gate,) = parse_plant(asked.encode(), where="plant").output
    assert gate.points[:2] == ('ns=3;s="Gate"."Reject"', "i=40")
    assert (gate.most_value("i=40"), gate.inputs) == (1, ("ns=3;i=1", "ns=3;i=2"))


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("""'ns=3;s="Gate"."Reject"'""", "'Gate.Reject'", "$.output[0].switch"),
        ('"i=40"', '"x=40"', "$.output[0].heartbeat"),
        ("fail_safe = 1", "fail_safe = 65536", "$.output[0].fail_safe"),
        ("plc.lan", "anna:geheim@plc.lan", "$.output[0].url"),  # it would be sent as plain text
        ("plc.lan/line", f"plc.lan/line{FILES.rpartition('&')[0]}", "$.output[0].url"),
        ("plc.lan/line", "/line", "$.output[0].url"),
    ],
)
def test_a_fault_of_an_output_on_opc_ua_is_named(old: str, new: str, path: str) -> None:
    (fault,) = faults_of(f"{SMALL}{NODE}".replace(old, new, 1))
    assert fault.path == path
    assert "geheim" not in str(fault)


def test_a_fault_of_a_handshake_is_named() -> None:
    shake = 'handshake = { trigger = "input/1", acknowledge = "coil/2", done = "coil/3" }\n'
    asked = f"{SMALL}{OUTPUT}{shake}".replace('delay_s = "600 ms"\n', "")
    (gate,) = parse_plant(asked.encode(), where="plant").output
    assert gate.points + gate.inputs == ("coil/12", "register/40", "coil/3", "input/1", "coil/2")
    assert paths_of(f"{SMALL}{OUTPUT}{shake}") == ["$.output[0].handshake"]
    assert paths_of(asked.replace("coil/3", "input/3")) == ["$.output[0].handshake.done"]
    assert paths_of(asked.replace("input/1", "register/1")) == ["$.output[0].handshake.trigger"]
    assert paths_of(asked.replace("coil/2", "coil/12")) == ["$.output[0].handshake"]


def test_two_outputs_cannot_write_one_point_and_a_delay_counts_from_one_camera() -> None:
    other = OUTPUT.replace('"gate"', '"lamp"').replace("register/40", "register/41")
    assert paths_of(f"{SMALL}{OUTPUT}{other}") == ["$.output"]
    assert paths_of(f"{SMALL}{OUTPUT}{other.replace('plc.lan:502', 'PLC.lan')}") == ["$.output"]
    unit = other.replace("unit=3", "unit=4")
    assert parse_plant(f"{SMALL}{OUTPUT}{unit}".encode(), where="plant").output
    second = """
[[camera]]
id = "side"
line = "west"
source = "v4l:0"
[[inspection]]
id = "edge"
camera = "side"
labels = ["dent"]
"""
    (fault,) = faults_of(f"{SMALL}{OUTPUT}{second}")
    assert (fault.path, fault.fix) == ("$.output[0].camera", 'Write camera = "rack", say.')
    named = OUTPUT.replace("fail_safe", 'camera = "side"\nfail_safe')
    assert parse_plant(f"{SMALL}{named}{second}".encode(), where="plant").output
