"""``/metrics``: what it has, in which form, and what it does without."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import httpx2
import pytest
import yaml  # type: ignore[import-untyped]
from fastapi.testclient import TestClient
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from lineside.core import Json, SystemClock, UnavailableError
from lineside.core.drivers import SecretUrl
from lineside.fleet.contract import OUTPUT_WAITS
from lineside.hub import HubConfig, RunningHub, Services, running
from lineside.hub.eventlog.stats import BUCKETS_S, CAMERAS, FULL, METRICS, Stats, series_name
from lineside.links import MailboxFigures
from lineside.links.shots import LOSSES
from lineside.testing import FakeClock
from lineside.testing.links import wait_until
from tests.hub.conftest import PLANT, Line
from tests.hub.prometheus import DEPLOY, scraping

ROOT = Path(__file__).parents[2]
Pictures = Callable[..., bytes]
ELSEWHERE = ("webhook_", "kafka_", "opcua_", "data_bytes", "certificate_", "rule_", "skew")
"""Figures of sinks, rules and settings that the hub of this file does without."""
ALERTS = DEPLOY / "prometheus" / "alerts.yml"


def families(stats: Stats) -> dict[str, Metric]:
    text = stats.exposition().decode()
    return {one.name: one for one in text_string_to_metric_families(text)}


@contextmanager
def working_hub(folder: Path, jpeg: Pictures) -> Iterator[RunningHub]:
    """A hub that stored a frame, a prediction and a verdict, and refused a message."""
    (folder / "plant.toml").write_bytes(
        PLANT.replace(b'"Warehouse"', b'"Warehouse"\nlimit_reject = 0.1')
    )
    config = HubConfig(
        data_dir=str(folder / "data"), plant=str(folder / "plant.toml"), port=0, bus_port=0,
        bus_broker="amqtt", records=SecretUrl("memory://"), blobs=SecretUrl("memory://"),
    )  # fmt: skip
    with running(config, clock=SystemClock()) as hub:
        stats, line = hub.services.stats, Line(hub.services, FakeClock(SystemClock().now()))
        line.send(line.camera(jpeg("red")), line.camera(b"no picture"))
        line.send(
            line.status(
                spool_dropped=0, frames=1, predictions=1,
                cameras=[{"camera": "rack", "state": "connected", "since": ""}],
                outputs=[
                    {"output": "gate", "state": "away", "late": 0},
                    {"output": "lamp", "state": "fail-safe", "reason": OUTPUT_WAITS},
                ],
            )
        )  # fmt: skip
        line.send(line.prediction("red"))
        wait_until(lambda: "lineside_shift_latency_p99_seconds{" in stats.exposition().decode())
        yield hub


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory, jpeg: Pictures) -> dict[str, Metric]:
    """Every series of a working hub's exposition."""
    with working_hub(tmp_path_factory.mktemp("hub"), jpeg) as hub:
        return families(hub.services.stats)


@pytest.fixture(scope="module")
def promtool(absent: Callable[[str, str], NoReturn]) -> str:
    """The program of Prometheus that checks files."""
    program = shutil.which("promtool")
    return program or absent("service", "promtool is not installed (Debian: prometheus)")


@pytest.fixture
def prometheus(jpeg: Pictures, promtool: str, tmp_path: Path) -> Iterator[httpx2.Client]:
    """A client of a Prometheus that scrapes a working hub."""
    del promtool  # of the same installation
    with working_hub(tmp_path, jpeg) as hub:
        token = Path(hub.services.config.data_dir) / "tokens" / "admin.token"
        with scraping(hub.url.removeprefix("http://"), token=token, folder=tmp_path) as client:
            yield client


def test_a_running_hub_exports_what_it_declares(scraped: dict[str, Metric]) -> None:
    for key, metric in METRICS.items():
        if key.startswith(ELSEWHERE):
            continue
        family = scraped[series_name(key)[0]]
        assert family.type == metric.kind
        assert family.samples, key
        assert all({*one.labels} - {"le"} == {*metric.labels} for one in family.samples), key
    assert scraped["process_resident_memory_bytes"].samples[0].value > 1e6
    assert scraped["lineside_device_outputs_fail_safe"].samples[0].value == 1


def test_dashboards_and_alerts_name_only_what_a_hub_exports(scraped: dict[str, Metric]) -> None:
    """Series, labels, and the states that a state may have."""
    labels: dict[str, dict[str, set[str]]] = {"up": {"job": {"lineside"}}}
    for family in scraped.values():
        for sample in family.samples:
            for name, value in (sample.labels | {"instance": "", "job": ""}).items():
                labels.setdefault(sample.name, {}).setdefault(name, set()).add(value)
    labels |= {
        series_name(key)[0] + "_total" * (one.kind == "counter"): {
            label: {""} for label in one.labels
        }
        for key, one in METRICS.items()
        if key.startswith(ELSEWHERE)
    }
    expressions = list(deployed_expressions())
    assert len(expressions) > 60
    for where, expression in expressions:
        named = re.findall(r"\b((?:lineside|process)_\w+|up)\b(\{[^}]*\})?", expression)
        assert named, where
        known: set[str] = {"le"}
        for name, selector in named:
            assert name in labels, f"{where}: {name}"
            known |= {*labels[name], "instance"}
            for label, sign, values in re.findall(r'(\w+)(=~|!~|=|!=)"([^"]*)"', selector):
                assert label in labels[name], f"{where}: {label} of {name}"
                if label == "state":
                    assert {*values.split("|")} <= labels[name][label], f"{where}: {sign}{values}"
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {one.strip() for one in group.split(",")} <= known, f"{where}: by ({group})"


def test_no_alert_on_an_increase_waits_until_it_is_over() -> None:
    on_increase = [
        rule for rule in alert_rules() if re.search(r"increase\([^)]*\)+ > 0", rule["expr"])
    ]
    assert len(on_increase) == 6
    assert not [rule["alert"] for rule in on_increase if "for" in rule]


def deployed_expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboards and alert rules, with where it stands."""
    for path in sorted((DEPLOY / "grafana").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                series, label = variable["query"].removeprefix("label_values(")[:-1].split(", ")
                yield f"{path.name}: ${label}", f"count by ({label}) ({series})"
    yield from ((rule["alert"], rule["expr"]) for rule in alert_rules())


def alert_rules() -> list[dict[str, str]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def test_what_is_lost_late_or_waits_is_on_a_dashboard_or_raises_an_alert() -> None:
    watched = " ".join(expression for _, expression in deployed_expressions())
    words = r"_(dead|dropped|fail_safe|late|lost|oversized|quarantined|refused|too_slow|waiting)$"
    assert not [
        name for name in (series_name(key)[0] for key in METRICS if re.search(words, key))
        if not re.search(rf"\b{name}(_total)?\b", watched)
    ]  # fmt: skip


@pytest.mark.service
@pytest.mark.parametrize(
    ("verb", "path"), [("check", ALERTS), ("test", Path(__file__).with_name("alerts.test.yml"))]
)
def test_promtool_takes_the_alert_rules(promtool: str, verb: str, path: Path) -> None:
    done = subprocess.run(
        [promtool, verb, "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.service
def test_a_prometheus_scrapes_the_hub_and_answers_the_dashboards(prometheus: httpx2.Client) -> None:
    """Every panel's query and alert rule is understood, and the panels of a line show something."""

    def ask(query: str) -> list[Json]:
        query = query.replace("$__rate_interval", "1m")
        query = re.sub(r"\$(device|camera|inspection|line)\b", ".*", query)
        reply = prometheus.get("/query", params={"query": query}).json()
        assert reply["status"] == "success", f"{query}: {reply}"
        return list(reply["data"]["result"])

    def filled() -> set[str]:
        return {where for where, expression in deployed_expressions() if ask(expression)}

    wait_until(lambda: bool(ask("sum(lineside_verdicts_total) > 0")))
    wait_until(lambda: "LinesideHubDown" not in filled())  # one scrape may take above a second
    boards = {where.partition(":")[0] for where in filled()}
    assert {"line.json", "hub.json", "fleet.json"} <= boards
    wait_until(lambda: {health for _, health, _ in rules(prometheus)} == {"ok"})
    wait_until(lambda: ("LinesideOutputFailSafe", "ok", "pending") in rules(prometheus))


def rules(prometheus: httpx2.Client) -> list[tuple[str, str, str]]:
    """Name, health and state of each alert rule, as Prometheus reports them."""
    (group,) = prometheus.get("/rules").json()["data"]["groups"]
    return [(rule["name"], rule["health"], rule["state"]) for rule in group["rules"]]


def test_series_have_names_of_their_own_and_base_units() -> None:
    names = [series_name(key)[0] for key in METRICS]
    assert len({*names}) == len(names)
    assert not [name for name in names if re.search(r"_(ms|s|min|mb|percent)(_|$)", name)]


def test_a_histogram_counts_every_time_once(line: Line, hub: Services) -> None:
    for sequence in range(1, 4):
        line.send(line.status(), line.prediction("blue", sequence=sequence))
        line.wait(1.0)
    stage = families(hub.stats)["lineside_inspection_stage_seconds"].samples
    total = {one.labels.get("le", one.name[-5:]): one.value for one in stage}
    assert {one.labels["stage"] for one in stage} == {"total"}  # other stages took no time
    assert (total["0.0025"], total["0.005"], total["+Inf"]) == (0, 3, 3)
    assert (total["count"], total["s_sum"[-5:]]) == (3, 0.015)
    assert len(total) == len(BUCKETS_S) + 3
    commits = families(hub.stats)["lineside_log_commit_seconds"].samples
    assert [one.value for one in commits if one.name.endswith("_count")] == [3]


def test_an_alert_about_drops_sees_the_first_one(hub: Services, line: Line) -> None:
    """Prometheus sees an increase only where the series was there before, at 0."""

    def drops() -> dict[tuple[str, str], float]:
        found = families(hub.stats)["lineside_frames_dropped"].samples
        return {(one.labels["camera"], one.labels["reason"]): one.value for one in found}

    hub.stats.watch_drops(lambda: ["rack", "gate"])
    hub.stats.watch_mailbox(
        CAMERAS, lambda: MailboxFigures(received=0, handed_out=0, dropped=0, waiting=0)
    )
    before = drops()
    assert {*before.values()} == {0}
    assert ("", FULL) in before
    line.send(line.camera(b"no picture"))
    assert drops() == before | {("rack", "picture cannot be read"): 1}
    assert hub.stats.plain()["frames_dropped"] == {"picture cannot be read": 1}


def test_images_that_cameras_lose_are_counted_over_their_devices(hub: Services, line: Line) -> None:
    hub.stats.watch_each("camera", "camera", read=hub.devices.camera_figures)
    cameras: list[Json] = [{"camera": "rack"}]
    lost: list[Json] = [
        {"rack": {"image lost": 2, "failed": -1}}, {"rack": {"image lost": 3, "made up": 4}},
        {"rack": 7, "none": {"failed": 1}}, ["rack"],
    ]  # fmt: skip
    for number, each in enumerate(lost):
        line.send(line.status(f"edge-{number}", cameras=cameras, images_lost=each))
    line.send(line.status("edge-0", state="offline"))  # no counter falls with it
    found = families(hub.stats)["lineside_camera_images_lost"].samples
    counts = {one.labels["reason"]: one.value for one in found}
    assert counts == dict.fromkeys(LOSSES, 0.0) | {"image lost": 5}
    assert {one.labels["camera"] for one in found} == {"rack"}


def test_a_store_that_is_away_costs_its_own_figures_only(client: TestClient, hub: Services) -> None:
    def away() -> float:
        raise UnavailableError("the store is away")

    hub.stats.watch("alerts_open", away)
    hub.stats.watch_each("system", "system", read=hub.systems)
    text = client.get("/metrics").text
    assert "lineside_alerts_open" not in text
    assert 'lineside_system_up{system="bus"} 1.0' in text


def test_what_a_device_says_makes_no_series_that_nobody_can_read(
    hub: Services, line: Line, clock: FakeClock
) -> None:
    hub.stats.watch_each("device", "device", read=hub.devices.figures)
    line.send(line.status(frames=10**30, predictions="many", spool_dropped=3))
    found = families(hub.stats)
    assert "lineside_device_frames" not in found
    assert "lineside_device_predictions" not in found
    (dropped,) = found["lineside_device_spool_dropped"].samples
    assert (dropped.labels, dropped.value) == ({"device": "edge-1"}, 3)
    (heard,) = found["lineside_device_heard_timestamp_seconds"].samples
    assert heard.value == clock.now().timestamp()
