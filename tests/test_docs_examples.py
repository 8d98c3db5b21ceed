"""What the docs tell others to write or run: read from the page, and used."""

import json
import re
import runpy
import tomllib
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from lineside.core import parse_plant, stable_id
from lineside.core.drivers import SecretUrl
from lineside.core.webhooks import WebhookConfig
from lineside.hub.config import KafkaSendConfig
from lineside.hub.eventlog.ledger import to_entry
from lineside.hub.sinks.kafka import is_sent, record_of
from lineside.hub.sinks.webhooks import is_wanted
from lineside.links.webhook import WebhookSender
from lineside.store import Logged
from lineside.streams import decode_event, read_entries, read_prediction, read_verdict
from lineside.streams.rules.replay import run_rule
from lineside.testing import FakeClock
from lineside.testing.events import small_plant
from lineside.testing.rules import rule_of
from lineside.vision import Prediction
from tests.links.hooks import Hooks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RULE = """
id = "red"
read = { predictions = "stock", answers = "each" }
where = [{ field = "decision", equals = "present" }]
key = ["name"]
window = { size_s = 5 }
"""

LINE = """
schema = "lineside.plant/1"
site = "hall"
line = [{ id = "belt", name = "Belt" }]
camera = [{ id = "top", line = "belt", source = "mqtt:i/cam" }]
inspection = [{ id = "stock", camera = "top", labels = ["blue"] }]
"""


def test_the_sinks_of_the_how_to_take_verdicts_as_they_show_them() -> None:
    page, kafka = ((DOCS / "how-to" / name).read_text() for name in ("webhooks.md", "kafka.md"))
    event = decode_event(
        re.findall(r"^    ({.+?}})$", page, re.MULTILINE | re.DOTALL)[0].encode(), where="page"
    )
    assert (read_verdict(event).part, event.subject) == ("A-2042", "press")
    logged = Logged(
        position=1, source_position=1, entry=to_entry(event), arrived_at=event.time, previous="",
        hash="",
    )  # fmt: skip
    hook, send = (
        dedent(re.findall(rf"^ +\[\[{name}\]\]\n(?:^ +.+\n)+", text, re.MULTILINE)[0])
        for name, text in (("webhook", page), ("kafka.send", kafka))
    )
    assert is_wanted(logged, parse_plant(f"{LINE}{hook}".encode(), where="page").webhook[0])
    sent = KafkaSendConfig(**tomllib.loads(send)["kafka"]["send"][0])
    assert is_sent(logged, sent)
    record = record_of(logged, sent)
    headers = (f"{name}: {value.decode()}\n" for name, value in record.headers)
    assert all(one in kafka for one in (f"key:     {(record.key or b'').decode()}\n", *headers))


def section() -> str:
    text = (DOCS / "reference" / "messages.md").read_text()
    return text.partition("## Prediction event")[2].partition("\n## ")[0]


def ran(code: str, folder: Path, *, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """The names that a page's piece of Python leaves."""
    (folder / "piece.py").write_text(code)
    return runpy.run_path(str(folder / "piece.py"), init_globals=given)


def test_each_output_of_the_how_to_is_a_part_of_a_plant_file() -> None:
    text = (DOCS / "how-to" / "outputs.md").read_text()
    blocks = re.findall(r"(?:^ +\[\[output\]\]\n)(?:^ +.+\n)+", text, flags=re.MULTILINE)
    found = [
        parse_plant(f"{LINE}{dedent(block)}".encode(), where="page").output[0].scheme
        for block in blocks
    ]
    assert found == ["modbus", "opc.tcp", "mqtt", "modbus"]


@pytest.fixture
def example() -> bytes:
    """The prediction event of the page, on one line."""
    block = section().partition("    {")[2].partition("\n\n")[0]
    return json.dumps(json.loads("{" + block)).encode()


def test_the_prediction_event_of_the_docs_is_one_and_a_rule_reads_it(example: bytes) -> None:
    event = decode_event(example, where="docs")
    told = read_prediction(event)
    assert event.id == stable_id("evt", told.frame.id, told.inspection, told.package)
    assert set(event.data) == {one.name for one in fields(Prediction)}
    entries = read_entries([example], plant=small_plant(), where="docs")
    (said,) = run_rule(rule_of(RULE), entries, plant=small_plant())
    assert said.data["key"] == {"name": "A1/red"}
    assert said.data["frame"] == told.frame.id


def test_the_ids_of_the_docs_are_made_as_the_docs_say(example: bytes, tmp_path: Path) -> None:
    code = dedent(section().partition("In Python:\n\n")[2].partition("\n\n`source`")[0])
    data = json.loads(example)["data"]
    given = {"digest": data["frame"]["digest"], "package": data["package"]}
    names = ran(code, tmp_path, given=given)
    assert (names["frame"], names["event"]) == (data["frame"]["id"], json.loads(example)["id"])


def test_what_the_docs_let_be_left_out_may_be_left_out(example: bytes) -> None:
    document = json.loads(example)
    for name in re.findall(r"^\| `(\w+)` \| (?!needed)", section(), re.MULTILINE):
        del document["data"][name]
    for name in ("deviceseq", "devicefirst", "dataschema"):
        del document[name]
    read_prediction(decode_event(json.dumps(document).encode(), where="docs"))
    assert set(document["data"]) < {one.name for one in fields(Prediction)}


def test_every_page_begins_with_its_reader() -> None:
    pages = [
        page for page in DOCS.rglob("*.md") if page.name != "index.md" and page.parent.name != "adr"
    ]
    assert len(pages) > 70
    for page in pages:
        _, first, *_ = page.read_text().split("\n\n")
        assert first.startswith("For "), page


def test_an_image_passes_at_most_20_files_of_known_records() -> None:
    way = (DOCS / "tour.md").read_text().partition("## From an MQTT image to the page")[2]
    way = way.partition("\n## ")[0]
    files = re.findall(r"`([a-z_]+/[a-z_/]+\.(?:py|js))` \|", way)
    assert len(files) == len(set(files)) == 20
    sources = [path.read_text() for path in (ROOT / "src/lineside").rglob("*.py")]
    for record in re.findall(r"records? `(\w+)`", way):
        assert any(f"class {record}" in text for text in sources), record


def test_the_receiver_of_the_docs_takes_what_the_hub_signs_and_nothing_else(
    hooks: Hooks, tmp_path: Path, clock: FakeClock
) -> None:
    secret = "whsec_" + "c2VjcmV0" * 6
    (tmp_path / "secrets").write_text(f"whsec_{'b3RoZXIh' * 6}\n{secret}\n")
    target = WebhookConfig(
        name="mes", url=SecretUrl(hooks.url), secret_file=str(tmp_path / "secrets")
    )
    with closing(WebhookSender(target)) as sender:
        sender.post("evt_1", b'{"a":1}', at=clock.now(), content="application/json")
    ((headers, body),) = hooks.came
    page = (DOCS / "how-to" / "webhooks.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    is_genuine = ran(code, tmp_path)["is_genuine"]

    def now() -> float:
        return clock.now().timestamp()

    assert is_genuine(headers, body, secret, now=now)
    assert not is_genuine(headers, body + b" ", secret, now=now)
    assert not is_genuine({**headers, "webhook-id": "evt_2"}, body, secret, now=now)
    assert not is_genuine(headers, body, "whsec_" + "bm9ib2R5" * 6, now=now)
    clock.advance(301)
    assert not is_genuine(headers, body, secret, now=now)
