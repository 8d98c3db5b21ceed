"""Who may say and hear what; mosquitto's access list read as its manual says."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import Camera, InvalidError, Plant, RouteKind, parse_plant
from lineside.core.drivers import SecretUrl
from lineside.core.outputs import OutputConfig
from lineside.core.plant import Line, Route
from lineside.core.plant_say import Say
from lineside.core.topics import pattern_covers, topic_matches
from lineside.links import BrokerLimits, device_access
from lineside.links.bus_access import TopicAccess, access_list, is_identity
from lineside.links.mosquitto import MosquittoFiles, MosquittoListener, mosquitto_config

PLANT = parse_plant(
    b"""
schema = "lineside.plant/1"
site = "hall"
line = [{ id = "a", name = "A" }, { id = "b", name = "B" }]
camera = [
  { id = "rack", line = "a", source = "mqtt:i/cam" },
  { id = "gate", line = "b", source = "folder:/nowhere" },
]
[[inspection]]
id = "look"
camera = "gate"
labels = ["x"]
trigger = { on = "topic", topic = "f/i/+/arrived" }
""",
    where="plant",
)
EDGE = device_access(PLANT, device="edge-1", lines=("a",))
GATE = device_access(PLANT, device="edge-2", lines=("b",))

LEVELS = st.sampled_from(["a", "b", "+", "#", "$x", ""])
PATTERNS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join)
TOPICS = st.lists(st.sampled_from(["a", "b", "$x", "c", ""]), min_size=1, max_size=5).map("/".join)


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        ("lineside/hall/device/edge-1/status", True),
        ("lineside/hall/device/edge-2/status", False),
        ("lineside/hall/device/edge-1/desired", False),
        ("lineside/hall/device/edge-1/ack", False),
        ("lineside/hall/device/+/status", False),
        ("lineside/other/device/edge-1/status", False),
        ("lineside/hall/a/rack/prediction", True),
        ("lineside/hall/a/rack/frame", True),
        ("lineside/hall/b/gate/prediction", False),
        ("lineside/hall/a/verdict", False),  # no inspection looks at the line
        ("lineside/hall/b/verdict", False),
        ("$aws/things/edge-1/jobs/$next/get", True),
        ("$aws/things/edge-2/jobs/$next/get", False),
        ("$aws/things/edge-1/shadow/update", False),
        ("edge-manager-app/logs/edge-1", True),
        ("edge-manager-app/logs/edge-2", False),
        ("i/cam", False),
        ("f/o/order", False),
        ("$SYS/broker/uptime", False),
        ("", False),
    ],
)
def test_a_device_says_what_is_its_own_and_its_lines(topic: str, *, allowed: bool) -> None:
    assert EDGE.may_publish(topic) is allowed


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("lineside/hall/device/edge-1/desired", True),
        ("lineside/hall/device/edge-1/ack", True),
        ("lineside/hall/device/edge-1/+", False),
        ("lineside/hall/device/+/desired", False),
        ("lineside/hall/device/edge-2/desired", False),
        ("$aws/things/edge-1/jobs/#", True),
        ("$aws/things/edge-1/jobs/notify-next", True),
        ("$aws/things/edge-1/jobs/+/get/accepted", True),
        ("$aws/things/+/jobs/notify", False),
        ("i/cam", True),
        ("f/i/+/arrived", False),
        ("#", False),
        ("+/+/+/+/+", False),
        ("$share/g/lineside/hall/device/edge-1/desired", False),
    ],
)
def test_a_device_hears_what_is_for_it(pattern: str, *, allowed: bool) -> None:
    assert EDGE.may_subscribe(pattern) is allowed


def test_outputs_on_the_bus_are_published_by_the_devices_of_their_line() -> None:
    made = OutputConfig(
        id="gate",
        line="b",
        url=SecretUrl("mqtt:"),
        switch="b/gate",
        heartbeat="b/alive",
        fail_safe=1,
    )
    elsewhere = replace(
        made, id="lamp", url=SecretUrl("mqtt://broker"), switch="b/lamp", heartbeat=""
    )
    plant = replace(PLANT, output=(made, elsewhere))
    mine = device_access(plant, device="edge-2", lines=("b",))
    found = [mine.may_publish(topic) for topic in ("b/gate", "b/alive", "b/lamp")]
    assert found == [True, True, False]
    assert not device_access(plant, device="edge-1", lines=("a",)).may_publish("b/gate")


def test_the_cameras_topics_follow_the_lines() -> None:
    assert GATE.may_publish("lineside/hall/b/gate/frame")
    assert GATE.may_publish("lineside/hall/b/verdict")
    assert GATE.may_subscribe("f/i/left/arrived")
    assert not GATE.may_subscribe("i/cam")
    nobody = device_access(PLANT, device="edge-3", lines=())
    assert not nobody.may_publish("lineside/hall/b/gate/frame")
    assert nobody.may_publish("lineside/hall/device/edge-3/status")


@pytest.mark.parametrize(
    "name", ["+", "#", "a/b", "a/#", "", "a b", "-a", "é", "x" * 65, "a\n", "%u"]
)
def test_a_name_that_is_none_may_nothing(name: str) -> None:
    assert not is_identity(name)
    assert device_access(PLANT, device=name, lines=("a", "b")) == TopicAccess()


@given(PATTERNS, PATTERNS, TOPICS)
def test_a_pattern_that_covers_another_takes_every_topic_of_it(
    wide: str, narrow: str, topic: str
) -> None:
    if pattern_covers(wide, narrow) and topic_matches(narrow, topic):
        assert topic_matches(wide, topic)


@given(PATTERNS)
def test_a_pattern_covers_itself_and_hash_everything_but_dollar(pattern: str) -> None:
    plain = "#" not in pattern.split("/")[:-1]
    if plain:
        assert pattern_covers(pattern, pattern)
    assert pattern_covers("#", pattern) is not pattern.startswith("$")


def judged(text: str, *, user: str, topic: str, access: str) -> bool:
    """mosquitto.conf(5), acl_file: general lines, patterns for everybody, topics of a user."""
    section = ""
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            section = rest
        elif word in ("topic", "pattern"):
            granted, _, allowed = rest.partition(" ")
            counts = word == "pattern" or section == user
            allowed = allowed.replace("%u", user) if word == "pattern" else allowed
            if counts and granted in (access, "readwrite") and topic_matches(allowed, topic):
                return True
    return False


WORDS = ("edge-1", "edge-2", "hall", "a", "b", "rack", "gate", "status", "desired", "jobs", "frame")
SOME = st.one_of(
    st.sampled_from(
        [
            *(one.replace("#", "x").replace("+", "y") for one in EDGE.publish + EDGE.subscribe),
            *(one.replace("#", "x").replace("+", "y") for one in GATE.publish + GATE.subscribe),
        ]
    ),
    st.lists(st.sampled_from(("lineside", "device", "$aws", "things", *WORDS)), min_size=1).map(
        "/".join
    ),
)


@given(SOME, st.sampled_from([("edge-1", EDGE), ("edge-2", GATE)]))
def test_the_list_for_mosquitto_says_the_same(topic: str, who: tuple[str, TopicAccess]) -> None:
    text = access_list(PLANT, devices={"edge-1": ("a",), "edge-2": ("b",)})
    name, access = who
    assert judged(text, user=name, topic=topic, access="write") is access.may_publish(topic)
    assert judged(text, user=name, topic=topic, access="read") is access.may_subscribe(topic)


def test_a_name_that_is_none_gets_no_line() -> None:
    assert "user" not in access_list(PLANT, devices={"a\ntopic #": ("a",), "+": ("a",)})


def config_of(files: MosquittoFiles) -> str:
    listener = MosquittoListener(host="", port=8883, devices=files)
    return mosquitto_config(
        (listener,), folder=Path("/var/lib/x"), user="lineside", limits=BrokerLimits()
    )


def test_the_configuration_is_the_same_for_the_same_files() -> None:
    names = ("ca_file", "certificate", "key", "revoked", "access")
    files = MosquittoFiles(**{name: Path("/etc/x") / name for name in names})
    text = config_of(files)
    assert text == config_of(files)
    for line in (
        "listener 8883", "require_certificate true", "use_identity_as_username true",
        "user lineside", "persistence true", "autosave_interval 1", "max_packet_size 12000000",
        "set_tcp_nodelay true",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "message_size_limit" not in text, "it acknowledges what it drops"
    with pytest.raises(InvalidError, match="line break"):
        config_of(replace(files, key=Path("/etc/x\nallow_anonymous true")))


def test_a_plant_without_cameras_on_the_bus_reads_none() -> None:
    bare = Plant(
        schema="lineside.plant/1", site="s", line=(Line(id="l", name="L"),),
        camera=(Camera(id="c", line="l", source=SecretUrl("folder:/x")),),
    )  # fmt: skip
    access = device_access(bare, device="d", lines=("l",))
    assert access.subscribe == (
        "lineside/s/device/d/desired", "lineside/s/device/d/ack", "lineside/s/plant",
        "$aws/things/d/jobs/#",
    )  # fmt: skip


def test_a_device_may_say_what_the_plant_file_has_said_of_its_cameras() -> None:
    say = Say(inspection="look", fields={"seen": "label"})
    route = Route(topic="gate/seen", kind=RouteKind.MESSAGE, say=say)
    plant = replace(PLANT, route=(route,))
    assert device_access(plant, device="edge-2", lines=("b",)).may_publish("gate/seen")
    assert not device_access(plant, device="edge-1", lines=("a",)).may_publish("gate/seen")
    assert not device_access(plant, device="edge-2", lines=("b",)).may_subscribe("gate/seen")
    assert "topic write gate/seen" in access_list(plant, devices={"edge-2": ("b",)})
