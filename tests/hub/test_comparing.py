"""Versions beside the one in use: made in the background, kept, said when impossible."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import Plant, UnavailableError, decode_json
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Registration, Role, Services, create_app
from lineside.hub.children import ChildSettings
from lineside.hub.learning.datasets import Teaching
from lineside.hub.models.comparison import Comparisons
from lineside.hub.models.model_service import MODEL_TYPE
from lineside.links import Bus
from lineside.models import Comparison, Package, build_package
from lineside.store import Logged
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from tests.hub.conftest import Line, open_hub

# Says what it is told to say, or waits; it writes what it was asked down.
CHILD = """
import json, os, pathlib, sys, time
plan = pathlib.Path(sys.argv[1])
packages = [one for one in sys.argv[2:] if one.endswith(".lspkg")]
asked = plan.with_name("asked.jsonl")
with asked.open("a") as log:
    log.write(json.dumps({
        "packages": len(packages), "words": sys.argv[2:], "records": os.environ["LINESIDE_RECORDS"],
    }) + chr(10))
told = json.loads(plan.read_text())
if told.get("wait"):
    time.sleep(600)
if told.get("error"):
    print("error: " + told["error"], file=sys.stderr)
    print("fix: nothing", file=sys.stderr)
    sys.exit(2)
print(json.dumps(told["found"]))
"""
FOUND = {
    "in_use": "sha256:" + "1" * 64, "in_use_name": "bright", "at": "2026-01-01T12:00:00.000Z",
    "dataset": "rack/1", "n": 4, "better_count": 1,
    "better": [{"picture": "left.png", "before": "nothing", "after": "blue", "truth": "blue",
                "digest": "sha256:" + "2" * 64}],
    "speed": {"median_ms": 2.0, "p95_ms": 3.0, "n": 32, "machine": "bench", "processor": "ours",
              "pictures": "test", "in_use_ms": 2.5},
}  # fmt: skip


@pytest.fixture
def hub(
    config: HubConfig, plant: Plant, clock: FakeClock, bus: Bus, *, tmp_path: Path
) -> Iterator[Services]:
    """The hub of the other tests over a store that a child can open."""
    stored = replace(
        config,
        records=SecretUrl(f"sqlite:///{tmp_path}/records.db"),
        blobs=SecretUrl(f"file://{tmp_path}/blobs"),
    )
    (tmp_path / "blobs").mkdir()
    with open_hub(stored, plant=plant, clock=clock) as services:
        services.join(bus, base_url="http://hub.test")
        yield services


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "child.py").write_text(CHILD)
    return tmp_path / "plan.json"


@pytest.fixture
def comparisons(hub: Services, plan: Path) -> Comparisons:
    settings = ChildSettings(
        folder=hub.config.folder / "comparing", records_url=SecretUrl("mqtt://hub:secret@r"),
        blobs_url=SecretUrl("b"),
        command=(sys.executable, str(plan.with_name("child.py")), str(plan)),
    )  # fmt: skip
    return Comparisons(hub.models, settings=settings, clock=hub.clock)


def say(plan: Path, **told: object) -> None:
    import json

    plan.write_text(json.dumps(told))


def asked(plan: Path) -> list[dict[str, Any]]:
    log = plan.with_name("asked.jsonl")
    lines = log.read_text().splitlines() if log.exists() else []
    return [decode_json(line, where="log") for line in lines]


def heard(hub: Services) -> list[Logged]:
    return list(hub.records.log.read(type=MODEL_TYPE, limit=200))


@pytest.fixture
def digest(hub: Services, archive: bytes) -> str:
    return hub.packages.add(archive, by="ada").digest


def test_a_registration_is_answered_at_once_and_compared_afterwards(
    hub: Services, comparisons: Comparisons, plan: Path, *, digest: str
) -> None:
    version = hub.models.register("discs", Registration(package=digest), by="ada")
    assert hub.models.comparison(version) is None
    assert hub.models.evidence("discs", 1).compared_with.startswith("Not compared yet")
    say(plan, found=FOUND)
    comparisons.take(heard(hub))
    evidence = hub.models.evidence("discs", 1)
    assert evidence.comparison is not None
    assert evidence.comparison.better[0].picture == "left.png"
    assert evidence.speed["Median"] == "2.0 ms a picture; in use 2.5 ms"
    assert evidence.speed["Measured"] == "n 32, test pictures, on bench"
    assert "the same 4 held-out pictures of rack/1" in evidence.compared_with
    assert "Meanwhile another package is in use" in evidence.compared_with
    assert [one["packages"] for one in asked(plan)] == [1]


def test_a_page_of_the_log_that_comes_twice_is_compared_once(
    hub: Services, comparisons: Comparisons, plan: Path, *, digest: str
) -> None:
    hub.models.register("discs", Registration(package=digest), by="ada")
    say(plan, found=FOUND)
    comparisons.take(heard(hub))
    comparisons.take(heard(hub))
    assert len(asked(plan)) == 1


def test_somebody_asks_again_and_it_is_held_against_what_is_in_use_now(
    hub: Services, comparisons: Comparisons, plan: Path, *, clock: FakeClock, archive: bytes
) -> None:
    first = hub.packages.add(archive, by="ada").digest
    hub.models.register("discs", Registration(package=first), by="ada")
    say(plan, found=FOUND)
    comparisons.take(heard(hub))
    package = Package.read(archive)
    files = {name: each for name, each in package.files.items() if name != "manifest.json"}
    other = hub.packages.add(
        build_package(replace(package.manifest, name="other"), files), by="ada"
    ).digest
    hub.packages.use(other, inspection="stock", by="eve", reason="direct")
    clock.advance(60)
    with TestClient(create_app(hub), base_url="http://127.0.0.1") as client:
        token = hub.auth.issue_token("ada", kind="api", role=Role.ENGINEER)
        said = {"Authorization": f"Bearer {token}"}
        again = "/api/v1/models/discs/versions/1/compare"
        assert client.post(again, headers=said).status_code == 202
        assert client.post(again.replace("/1/", "/9/"), headers=said).status_code == 404
    comparisons.take(heard(hub))
    assert [one["packages"] for one in asked(plan)] == [1, 2]
    comparisons.take(heard(hub))  # asked before it was made: nothing to do
    found = asked(plan)[-1]
    assert (found["records"], "secret" in str(found["words"])) == ("mqtt://hub:secret@r", False)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"error": "the package has no network"}, "failed: the package has no network."),
        ({"found": {"n": "many"}}, "failed: "),
        ({"found": {**FOUND, "why_not": "Nothing is in use."}}, "Nothing is in use."),
    ],
)
def test_what_cannot_be_compared_says_why(
    hub: Services, comparisons: Comparisons, plan: Path, *, digest: str, told: dict[str, Any],
    words: str,
) -> None:  # fmt: skip
    hub.models.register("discs", Registration(package=digest), by="ada")
    say(plan, **told)
    comparisons.take(heard(hub))
    assert words in hub.models.evidence("discs", 1).compared_with
    assert not (hub.config.folder / "comparing").exists()


def test_a_hub_that_stops_in_the_middle_compares_after_its_next_start(
    hub: Services, comparisons: Comparisons, plan: Path, *, digest: str
) -> None:
    version = hub.models.register("discs", Registration(package=digest), by="ada")
    say(plan, wait=True)
    refused: list[str] = []

    def follow() -> None:
        try:
            comparisons.take(heard(hub))
        except UnavailableError as error:
            refused.append(error.message)

    thread = threading.Thread(target=follow)
    thread.start()
    wait_until(lambda: asked(plan))
    comparisons.close()
    thread.join(LONG_S)
    assert refused == ["the hub stops"]
    assert hub.models.comparison(version) is None
    with pytest.raises(UnavailableError):
        comparisons.take(heard(hub))


def test_a_child_that_is_killed_is_named_with_its_signal(
    hub: Services, comparisons: Comparisons, plan: Path, *, digest: str
) -> None:
    version = hub.models.register("discs", Registration(package=digest), by="ada")
    say(plan, wait=True)
    thread = threading.Thread(target=lambda: comparisons.take(heard(hub)))
    thread.start()
    wait_until(lambda: asked(plan) and comparisons._child.process)
    assert comparisons._child.process is not None
    comparisons._child.process.send_signal(signal.SIGKILL)
    thread.join(LONG_S)
    kept = hub.models.comparison(version)
    assert kept is not None
    assert kept.why_not.startswith("The comparison failed: its process was killed by SIGKILL")


@pytest.mark.slow
def test_the_real_child_compares_two_packages_on_a_dataset_of_the_hub(
    hub: Services, archive: bytes, line: Line, *, jpeg: Callable[..., bytes]
) -> None:
    line.send(line.camera(jpeg("blue")))
    frames = tuple(row.id for row in hub.frames.page())
    hub.datasets.teach("rack", Teaching(frames=frames, labels=("blue",)), by="anna")
    hub.datasets.freeze("rack", by="anna")
    package = Package.read(archive)
    files = {name: each for name, each in package.files.items() if name != "manifest.json"}
    lineage = replace(package.manifest.lineage, data_digest=hub.datasets.version("rack", 1).digest)
    # A region's outputs are numbered anew in each row, as a training numbers them.
    sees = tuple(replace(rule, output=0) for rule in package.manifest.rules)
    blind = tuple(replace(rule, offset=-99.0) for rule in sees)
    both = [
        build_package(replace(package.manifest, name=name, lineage=lineage, rules=rules), files)
        for name, rules in (("blind", blind), ("sees", sees))
    ]
    old, new = (hub.packages.add(one, by="ada").digest for one in both)
    hub.packages.use(old, inspection="stock", by="eve", reason="first")
    version = hub.models.register("discs", Registration(package=new), by="ada")
    hub.comparisons.take(heard(hub))
    found = hub.models.comparison(version) or Comparison()
    assert (found.why_not, found.n, found.in_use) == ("", 1, old)
    assert [(one.picture, one.before, one.after, one.truth) for one in found.better] == [
        (frames[0], "nothing", "blue", "blue")
    ]
    assert found.speed is not None
    with TestClient(create_app(hub), base_url="http://127.0.0.1") as client:
        client.get("/sign-in", params={"token": hub.auth.issue_link(name="zoe")})
        page = client.get("/models/groups/discs/1").text
        report = client.get("/models/groups/discs/1/report").text
    for part in (
        f'href="/frames/{frames[0]}"',
        "Became right: 1",
        "Compare again",
    ):
        assert part in page
    assert "Became right: 1" in report
    assert "href=" not in report
