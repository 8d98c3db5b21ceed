"""Training runs: a child process whose death takes nothing with it."""

import os
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.cli.app import _run
from lineside.core import ConflictError, InvalidError, Plant, Task, decode_json
from lineside.core.drivers import SecretUrl
from lineside.hub import HubConfig, Role, Services, create_app
from lineside.hub.config import RetrainRule
from lineside.hub.learning.jobs import Retraining, RunRequest
from lineside.hub.learning.labelling import LabelList
from lineside.hub.pages.learning import backbone_choices
from lineside.hub.views import RunView
from lineside.library.training import training_job
from lineside.links import Bus
from lineside.models import Package
from lineside.store import open_records
from lineside.streams import EVENT_TYPE, Event
from lineside.testing import FakeClock
from lineside.testing.links import LONG_S, wait_until
from lineside.training.job import read_job
from tests.hub.conftest import Line, another_hub, open_hub
from tests.training.test_onnx_backbone import written

# A trainer that does what it is told: it speaks the same lines as the real one.
TRAINER = """
import json, pathlib, queue, shutil, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--job") + 1])
job = json.loads((folder / "job.json").read_text())
plan = json.loads((folder.parent / "plan.json").read_text())
stop = queue.SimpleQueue()
signal.signal(signal.SIGTERM, lambda number, _: stop.put(number))
done = folder / "steps"
begun = int(done.read_text()) if done.exists() else 0
print("noise that is no progress", flush=True)
for step in range(begun, 4):
    line = {"percent": 25.0 * (step + 1), "eta_s": 3 - step, "stage": "fit", "loss": 1 / (step + 1)}
    line["held_out"] = None if step == 0 else 0.9
    print(json.dumps(line), flush=True)
    fresh = folder / "steps.new"
    fresh.write_text(str(step + 1))
    fresh.replace(done)  # it may be killed at any moment
    if step + 1 == plan.get("fail_at"):
        print(plan.get("words", "no more memory"), file=sys.stderr)
        sys.exit(plan.get("code", 3))
    while step + 1 == plan.get("pause_at") and not (folder.parent / "go_on").exists():
        time.sleep(0.02)
    if step + 1 == plan.get("wait_at"):
        stop.put(stop.get(timeout=300))
    if not stop.empty():
        sys.exit(1)
shutil.copy(plan["package"], folder / "package.lspkg")
metric = {"value": 1.0, "low": 0.8, "high": 1.0, "n": 8, "baseline": 0.5}
(folder / "result.json").write_text(json.dumps({"metrics": {"accuracy": metric}}))
"""


@pytest.fixture
def trainer(tmp_path: Path) -> tuple[str, ...]:
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    return (sys.executable, str(script))


@pytest.fixture
def hub(
    config: HubConfig,
    plant: Plant,
    clock: FakeClock,
    bus: Bus,
    *,
    trainer: tuple[str, ...],
    tmp_path: Path,
) -> Iterator[Services]:
    """The hub of the other tests with a trainer of ours, records that can be opened again."""
    records = SecretUrl(f"sqlite:///{tmp_path}/records.db")
    stored = replace(
        config, records=records, training_device="auto",
        backbones={"dinov2": "nets/small.onnx", "parts": "parts-resnet18"},
    )  # fmt: skip
    with open_hub(stored, plant=plant, clock=clock, run_command=trainer) as services:
        services.join(bus, base_url="http://hub.test")
        yield services


@pytest.fixture
def plan(config: HubConfig, archive: bytes, tmp_path: Path) -> Callable[..., None]:
    """What the trainer will do."""
    package = tmp_path / "made.lspkg"
    package.write_bytes(archive)

    def write(**wanted: int | str) -> None:
        folder = config.folder / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        import json

        (folder / "plan.json").write_text(json.dumps({"package": str(package), **wanted}))

    write()
    return write


@pytest.fixture
def version(hub: Services, line: Line, jpeg: Callable[..., bytes]) -> int:
    """A frozen data set to train on."""
    from lineside.hub.learning.datasets import Teaching

    line.send(line.camera(jpeg("blue")))
    frames = tuple(row.id for row in hub.frames.page())
    hub.datasets.teach("rack", Teaching(frames=frames, labels=("blue",)), by="anna")
    return hub.datasets.freeze("rack", by="anna").number


class Watcher:
    """Waits until a run is what it should be."""

    def __init__(self, hub: Services) -> None:
        self._hub = hub
        self._moved = threading.Condition()
        hub.runs.listen(lambda _run: self._notify())

    def _notify(self) -> None:
        with self._moved:
            self._moved.notify_all()

    def until(self, run: str, wanted: Callable[[RunView], bool]) -> RunView:
        with self._moved:
            assert self._moved.wait_for(lambda: wanted(self._hub.runs.one(run)), timeout=LONG_S)
        return self._hub.runs.one(run)

    def ended(self, run: str) -> RunView:
        return self.until(run, lambda view: view.state != "running")


@pytest.fixture
def watcher(hub: Services) -> Watcher:
    return Watcher(hub)


@pytest.mark.usefixtures("version", "plan")
def test_a_run_ends_with_a_package_in_the_registry(hub: Services, watcher: Watcher) -> None:
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    assert (run.state, run.version, run.inspection) == ("running", 1, "stock")
    done = watcher.ended(run.id)
    assert (done.state, done.percent, done.reason) == ("done", 100.0, "")
    assert done.metrics["accuracy"]["n"] == 8
    assert [point[0] for point in done.history] == [25.0, 50.0, 75.0, 100.0]
    assert done.held_out == 0.9
    assert hub.packages.one(done.package).added_by == "anna"


@pytest.mark.usefixtures("version", "plan")
def test_a_run_registers_what_it_made_where_that_was_asked(hub: Services, watcher: Watcher) -> None:
    done = watcher.ended(
        hub.runs.start(RunRequest(dataset="rack", register_as="discs"), by="anna").id
    )
    assert (done.version_name, done.register_as, done.reason) == ("discs/1", "discs", "")
    version = hub.models.one("discs", 1)
    assert (version.digest, version.registered_by) == (done.package, "anna")
    assert version.evidence == {"run": done.id, "dataset": "rack/1"}
    again = hub.runs.start(RunRequest(dataset="rack", seed=8, register_as="discs"), by="anna")
    assert watcher.ended(again.id).version_name == "discs/1"  # the very same package
    assert watcher.ended(hub.runs.start(RunRequest(dataset="rack"), by="anna").id).version_name == (
        ""
    )
    with pytest.raises(InvalidError, match="names no group"):
        RunRequest(dataset="rack", register_as="a--b")
    with pytest.raises(InvalidError, match="of task anomaly, and discs/1 is of task multilabel"):
        hub.runs.start(RunRequest(dataset="rack", task="anomaly", register_as="discs"), by="anna")


@pytest.mark.usefixtures("version")
def test_a_run_keeps_the_backbone_that_was_chosen(
    hub: Services, plan: Callable[..., None], watcher: Watcher, client: TestClient,
    browser: TestClient,
) -> None:  # fmt: skip
    plan(wait_at=2)
    body = {"dataset": "rack", "inspection": "stock", "backbone": "dinov2", "register_as": "discs"}
    run = client.post("/api/v1/runs", json=body).json()["id"]
    watcher.until(run, lambda view: view.percent >= 50)
    job = hub.runs.folder(run) / "job.json"
    before = job.read_bytes()
    of_command = training_job(
        Task.MULTILABEL, data="dataset://rack/1", plant=Path(hub.config.plant),
        inspection="stock", backbone="nets/small.onnx",
    )  # fmt: skip
    of_hub = read_job(job.parent)
    assert of_hub == replace(of_command, created_at=of_hub.created_at, trained_by="tester")
    assert of_hub.backbone == str(Path("nets/small.onnx").absolute())
    hub.runs.cancel(run)
    plan()
    hub.runs.resume(run)
    done = watcher.ended(run)
    assert (done.state, done.backbone, job.read_bytes()) == ("done", "dinov2", before)
    assert hub.models.one("discs", 1).evidence["backbone"] == "dinov2"
    for page in (f"/training/{run}", "/models/groups/discs/1"):
        assert "<dt>Backbone</dt><dd>dinov2</dd>" in browser.get(page).text
    usual = watcher.ended(hub.runs.start(RunRequest(dataset="rack"), by="anna").id)
    assert usual.backbone == ""
    shown = browser.get(f"/training/{usual.id}").text
    assert "<dt>Backbone</dt><dd>EfficientNet-Lite0</dd>" in shown


@pytest.mark.usefixtures("plan")
def test_pages_offer_the_backbones_that_a_task_can_learn_on(
    hub: Services, browser: TestClient, line: Line, *, jpeg: Callable[..., bytes],
    watcher: Watcher,
) -> None:  # fmt: skip
    from lineside.hub.learning.datasets import Teaching

    for seed in range(6):
        line.wait(1.0)
        line.send(line.camera(jpeg("blue", seed=seed)))
    rows = [row.id for row in hub.frames.page()]
    for labels, frames in ((("blue",), rows[:3]), (("red",), rows[3:])):
        hub.datasets.teach("rack", Teaching(frames=tuple(frames), labels=labels), by="anna")
    hub.datasets.freeze("rack", by="anna")

    def offered(page: str) -> list[str]:
        form = browser.get(page).text.partition('<select name="backbone">')[2]
        return re.findall(">([^<]+)</option>", form.partition("</select>")[0])

    usual = "EfficientNet-Lite0"
    assert offered("/training") == [usual, "dinov2, frozen", "parts"]
    step = "/inspections/new/rack?step=training"
    hub.labelling.declare("rack", LabelList(task="classify"))
    assert offered(step) == [usual, "dinov2", "parts"]
    last = RunRequest(dataset="rack", inspection="rack", task="classify", backbone="parts")
    watcher.ended(hub.runs.start(last, by="anna").id)
    assert '<option value="parts" selected>' in browser.get(step).text
    assert backbone_choices(hub, task="detect") == (("parts", "parts"),)
    hub.runs.backbones = {}
    assert [offered(page) for page in ("/training", step)] == [[], []]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that waits for other writers for half a second."""
    monkeypatch.setattr("lineside.store.sqlite.PATIENCE_S", 0.5)


@pytest.mark.usefixtures("impatient", "version")
def test_a_store_that_is_away_ends_no_training(
    hub: Services, plan: Callable[..., None], watcher: Watcher, *, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    plan(pause_at=1)
    store = sqlite3.connect(tmp_path / "records.db", timeout=LONG_S, isolation_level=None)
    with closing(store) as other:
        run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
        watcher.until(run.id, lambda view: view.percent >= 25)
        other.execute("BEGIN EXCLUSIVE")
        (hub.config.folder / "runs" / "go_on").touch()
        wait_until(lambda: "away, trying again" in caplog.text)
        other.execute("ROLLBACK")
    done = watcher.ended(run.id)
    assert (done.state, done.reason) == ("done", "")
    wait_until(lambda: hub.records.documents.get("run", run.id).body["view"]["state"] == "done")


@pytest.mark.usefixtures("version", "plan")
def test_the_job_names_data_inspection_and_who_asked(hub: Services, watcher: Watcher) -> None:
    run = hub.runs.start(RunRequest(dataset="rack", seed=11), by="anna")
    watcher.ended(run.id)
    job = decode_json((hub.runs.folder(run.id) / "job.json").read_bytes(), where="job")
    assert (job["data"], job["seed"], job["trained_by"]) == ("dataset://rack/1", 11, "anna")
    assert job["inspection"]["id"] == "stock"
    assert job["schema"] == "lineside.train-job/1"


@pytest.mark.usefixtures("version")
def test_a_child_killed_with_kill_9_leaves_the_hub_alive_and_the_run_resumable(
    hub: Services, plan: Callable[..., None], watcher: Watcher
) -> None:
    plan(wait_at=2)
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    watcher.until(run.id, lambda view: view.percent >= 50)
    os.kill(hub.runs._children[run.id].process.pid, signal.SIGKILL)
    failed = watcher.ended(run.id)
    assert failed.state == "failed"
    assert "SIGKILL, perhaps because memory ran out" in failed.reason
    plan()
    hub.runs.resume(run.id)
    done = watcher.ended(run.id)
    assert (done.state, done.reason) == ("done", "")
    assert [point[0] for point in done.history] == [25.0, 50.0, 75.0, 100.0]


@pytest.mark.usefixtures("version")
def test_a_child_that_fails_leaves_its_last_words(
    hub: Services, plan: Callable[..., None], watcher: Watcher
) -> None:
    plan(fail_at=2)
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    failed = watcher.ended(run.id)
    assert failed.reason == "the training process ended with code 3: no more memory"
    assert failed.log == ("no more memory",)
    plan(fail_at=3, words="error: no picture fits (rack/1)\nfix: Label some.", code=2)
    hub.runs.resume(run.id)
    failed = watcher.ended(run.id)
    assert failed.reason.endswith("ended with code 2: no picture fits (rack/1). Label some")
    assert failed.log[-1] == "fix: Label some."
    with pytest.raises(ConflictError, match="is failed and cannot go on"):  # refused again
        hub.runs.resume(run.id)


@pytest.mark.usefixtures("version")
def test_a_run_is_cancelled_and_goes_on_where_it_stood(
    hub: Services, plan: Callable[..., None], watcher: Watcher
) -> None:
    plan(wait_at=3)
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    watcher.until(run.id, lambda view: view.percent >= 75)
    assert hub.runs.cancel(run.id).state == "cancelled"
    with pytest.raises(ConflictError):
        hub.runs.cancel(run.id)
    plan()
    hub.runs.resume(run.id)
    assert watcher.ended(run.id).state == "done"
    with pytest.raises(ConflictError):
        hub.runs.resume(run.id)


@pytest.mark.usefixtures("version")
def test_one_run_at_a_time(hub: Services, plan: Callable[..., None], watcher: Watcher) -> None:
    plan(wait_at=1)
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    with pytest.raises(ConflictError, match=run.id):
        hub.runs.start(RunRequest(dataset="rack"), by="bob")
    hub.runs.cancel(run.id)
    watcher.ended(run.id)


@pytest.mark.usefixtures("version")
def test_a_package_that_is_none_fails_the_run(
    hub: Services, plan: Callable[..., None], watcher: Watcher, tmp_path: Path
) -> None:
    plan()
    (tmp_path / "made.lspkg").write_bytes(b"no package")
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    failed = watcher.ended(run.id)
    assert failed.state == "failed"
    assert failed.reason.startswith("no usable package")


@pytest.mark.usefixtures("version")
def test_a_run_of_a_hub_that_died_is_marked_and_its_orphan_ended(
    hub: Services,
    plan: Callable[..., None],
    clock: FakeClock,
    watcher: Watcher,
    *,
    trainer: tuple[str, ...],
) -> None:
    plan(wait_at=2)
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    watcher.until(run.id, lambda view: view.percent >= 50)
    process = hub.runs._children[run.id].process
    # What a new hub finds after kill -9: the record says running, the child may still be at work.
    with open_records(hub.config.records, clock=clock) as records:
        again = another_hub(hub, records=records, run_command=trainer)
        assert process.wait(LONG_S) == -signal.SIGKILL
        found = again.runs.one(run.id)
        assert found.state == "failed"
        assert found.reason == "the hub stopped while it ran; it can be resumed"
        watcher.ended(run.id)
        plan()
        again.runs.resume(run.id)
        assert Watcher(again).ended(run.id).state == "done"


@pytest.mark.usefixtures("version")
def test_work_finished_while_the_hub_was_dead_is_taken_over(
    hub: Services,
    plan: Callable[..., None],
    watcher: Watcher,
    *,
    trainer: tuple[str, ...],
) -> None:
    plan()
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    done = watcher.ended(run.id)
    left = hub.records.documents.get("run", run.id).body
    left["view"] |= {"state": "running", "package": ""}
    hub.records.documents.put("run", run.id, body={**left, "pid": 999_999})
    again = another_hub(hub, run_command=trainer)
    assert again.runs.one(run.id).state == "done"
    assert again.runs.one(run.id).package == done.package


@pytest.mark.usefixtures("version")
def test_stopping_the_hub_cancels_what_runs(
    hub: Services, plan: Callable[..., None], watcher: Watcher
) -> None:
    plan(wait_at=1)
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    watcher.until(run.id, lambda view: view.percent >= 25)
    hub.runs.close()
    assert hub.runs.one(run.id).state == "cancelled"


@pytest.mark.usefixtures("version", "plan")
def test_runs_are_started_and_listed_over_http(client: TestClient, hub: Services) -> None:
    watcher = Watcher(hub)
    body = {"task": "multilabel", "dataset": "rack", "inspection": "stock"}
    started = client.post("/api/v1/runs", json=body)
    assert started.status_code == 201
    run = started.json()["id"]
    watcher.ended(run)
    assert client.get(f"/api/v1/runs/{run}").json()["state"] == "done"
    (listed,) = client.get("/api/v1/runs").json()["items"]
    assert listed["started_by"] == "tester"
    assert client.post(f"/api/v1/runs/{run}/cancel").status_code == 409
    assert client.post(f"/api/v1/runs/{run}/resume").status_code == 409


@pytest.mark.parametrize("task", ["classify", "detect", "count", "segment", "anomaly"])
@pytest.mark.usefixtures("version", "plan")
def test_every_task_can_be_started_on_whole_pictures(
    hub: Services, watcher: Watcher, task: str
) -> None:
    run = hub.runs.start(RunRequest(dataset="rack", task=task), by="anna")
    assert (run.task, run.inspection) == (task, "rack")
    assert watcher.ended(run.id).state == "done"
    job = decode_json((hub.runs.folder(run.id) / "job.json").read_bytes(), where="job")
    assert job["inspection"]["task"] == task
    assert job["inspection"]["labels"] == (["blue"] if task == "classify" else [])
    assert job["device"] == ("cpu" if task == "anomaly" else "auto")


@pytest.mark.usefixtures("version")
def test_the_time_left_is_known_while_it_runs(
    hub: Services, plan: Callable[..., None], watcher: Watcher
) -> None:
    plan(wait_at=2)
    run = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    assert watcher.until(run.id, lambda view: view.percent >= 50).eta_s == 2.0
    hub.runs.cancel(run.id)


@pytest.mark.usefixtures("version", "plan")
def test_a_new_version_starts_what_the_rule_says_and_waits_its_turn(
    hub: Services, plan: Callable[..., None], watcher: Watcher
) -> None:
    rule = RetrainRule(dataset="rack", task="anomaly", register_as="discs", backbone="dinov2")
    other = RetrainRule(dataset="tiles")
    retraining = Retraining((rule, other), runs=hub.runs)
    plan(wait_at=1)
    busy = hub.runs.start(RunRequest(dataset="rack"), by="anna")
    watcher.until(busy.id, lambda view: view.percent >= 25)
    retraining.version_frozen("rack", 1)
    retraining.version_frozen("none", 1)
    assert [run.id for run in hub.runs.all()] == [busy.id]
    plan()
    hub.runs.cancel(busy.id)
    (newest,) = [run for run in hub.runs.all() if run.id != busy.id]
    assert (newest.task, newest.started_by) == ("anomaly", "re-training rule")
    assert newest.backbone == "dinov2"
    done = watcher.ended(newest.id)
    assert (done.state, done.version_name) == ("done", "discs/1")
    assert len(hub.runs.all()) == 2


@pytest.mark.usefixtures("version")
def test_a_rule_that_cannot_be_followed_is_forgotten(hub: Services) -> None:
    retraining = Retraining((RetrainRule(dataset="gone"),), runs=hub.runs)
    retraining.version_frozen("gone", 1)
    assert hub.runs.all() == ()
    assert retraining._waiting == {}


@pytest.mark.usefixtures("version")
def test_drift_starts_a_run_where_a_rule_says_so(
    hub: Services, plan: Callable[..., None], watcher: Watcher, clock: FakeClock
) -> None:
    plan()
    quiet = RetrainRule(dataset="rack", inspection="stock")
    loud = RetrainRule(dataset="rack", inspection="stock", on_drift=True)
    event = Event(
        id="evt_1", source="/hall/hub", type=EVENT_TYPE, time=clock.now(), subject="drift",
        data={"rule": "drift", "inspection": "stock"},
    )  # fmt: skip
    Retraining((quiet,), runs=hub.runs).drifted(event)
    assert hub.runs.all() == ()
    Retraining((loud,), runs=hub.runs).drifted(replace(event, data={"inspection": "other"}))
    assert hub.runs.all() == ()
    Retraining((loud,), runs=hub.runs).drifted(event)
    (run,) = hub.runs.all()
    assert (run.inspection, run.started_by) == ("stock", "re-training rule")
    assert watcher.ended(run.id).state == "done"


@pytest.mark.parametrize(
    ("words", "message"),
    [({"task": "dream"}, "no task 'dream'"), ({"register_as": "a--b"}, "'a--b'")],
)
def test_a_rule_that_no_training_could_follow_is_refused(
    words: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidError, match=message):
        RetrainRule(dataset="rack", **words)  # type: ignore[arg-type]  # texts alone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"backbone": "dino"}, "the task detect fine-tunes its backbone"),
        ({"task": "classify"}, "inspection stock is of task detect, and a rule trains classify"),
    ],
)
def test_a_plant_whose_inspection_a_rule_cannot_train_is_refused(
    config: HubConfig, plant: Plant, words: dict[str, str], message: str
) -> None:
    (stock,) = plant.inspection
    boxes = replace(plant, inspection=(replace(stock, task=Task.DETECT, labels=("a",), region=()),))
    rule = RetrainRule(dataset="rack", inspection="stock", **words)  # type: ignore[arg-type]  # texts alone
    ruled = replace(config, retrain=(rule,), backbones={"dino": "/srv/dino.onnx"})
    (fault,) = ruled.plant_faults(boxes)
    assert message in fault.expected
    assert ruled.plant_faults(replace(plant, inspection=())) == []  # still to come
    assert replace(config, retrain=(RetrainRule(dataset="rack", inspection="stock"),)).plant_faults(
        boxes
    ) == []  # fmt: skip


def test_a_rule_about_drift_names_its_inspection() -> None:
    with pytest.raises(InvalidError, match="drift is of an inspection"):
        RetrainRule(dataset="rack", on_drift=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbones": {"dinov2": " "}}, "'dinov2' = ' ' is no name and what it stands for"),
        ({"backbones": {64 * "n": "n.onnx"}}, "no name and what"),
        ({"backbones": {"my\nnet": "n.onnx"}}, "no name and what"),
        ({"retrain": (RetrainRule(dataset="rack", backbone="dino"),)}, "'dino' is no name of"),
        (
            {
                "retrain": (RetrainRule(dataset="rack", task="detect", backbone="dino"),),
                "backbones": {"dino": "/srv/dino.onnx"},
            },
            "the task detect fine-tunes its backbone",
        ),
    ],
)
def test_backbones_of_the_settings_have_names(
    config: HubConfig, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidError, match=words):
        replace(config, **changes)


@pytest.fixture
def ruled(
    config: HubConfig, plant: Plant, clock: FakeClock, bus: Bus, *, trainer: tuple[str, ...],
    jpeg: Callable[..., bytes], tmp_path: Path,
) -> Iterator[Services]:  # fmt: skip
    """A hub that retrains "stock" on each version of "rack", whose draft holds one image."""
    from lineside.hub.learning.datasets import Teaching

    rules = replace(
        config, records=SecretUrl(f"sqlite:///{tmp_path}/ruled.db"),
        retrain=(RetrainRule(dataset="rack", inspection="stock"),), backbones={"dinov2": "n.onnx"},
    )  # fmt: skip
    with open_hub(rules, plant=plant, clock=clock, run_command=trainer) as services:
        services.join(bus, base_url="http://hub.test")
        sender = Line(services, clock)
        sender.send(sender.camera(jpeg("blue")))
        frames = tuple(row.id for row in services.frames.page())
        services.datasets.teach("rack", Teaching(frames=frames, labels=("blue",)), by="anna")
        yield services


@pytest.mark.usefixtures("plan")
def test_freezing_a_version_tells_the_rules(ruled: Services) -> None:
    ruled.datasets.freeze("rack", by="anna")
    (run,) = ruled.runs.all()
    assert (run.started_by, run.inspection, run.version) == ("re-training rule", "stock", 1)


@pytest.mark.usefixtures("plan")
def test_a_run_of_the_draft_goes_before_the_rules_of_its_dataset(ruled: Services) -> None:
    body = {"dataset": "rack", "inspection": "stock", "freeze": True}
    token = ruled.auth.issue_token("ada", kind="api")
    with TestClient(
        create_app(ruled), base_url="http://127.0.0.1",
        headers={"Authorization": f"Bearer {token}"},
    ) as program:  # fmt: skip
        for changes in (
            {"backbone": "resnet"}, {"backbone": "dinov2", "settings": {"tune": 1}},
            {"backbone": "dinov2", "task": "detect", "inspection": "rack"}, {"task": "detect"},
            {"seed": -1}, {"settings": {"epochs": 2}},
            {"task": "segment", "inspection": "rack", "settings": {"bf16": 2}},
        ):  # fmt: skip
            assert program.post("/api/v1/runs", json={**body, **changes}).status_code == 400
        mistyped = {"task": "classify", "inspection": "rack", "settings": {"epoch": 2}}
        said = program.post("/api/v1/runs", json={**body, **mistyped}).json()
        assert said["detail"].startswith("the task classify has no setting 'epoch'")
        assert "batch_size (a number of 1 or more), epochs (" in said["fix"]
        assert ruled.datasets.one("rack").versions == ()
        answer = program.post("/api/v1/runs", json=body)
    assert answer.status_code == 201, answer.text
    (run,) = ruled.runs.all()
    assert (run.started_by, run.version) == ("ada", 1)
    assert ruled.datasets.version("rack", 1).parting is not None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"dataset": "none"}, 404),
        ({"dataset": "rack", "version": 9}, 404),
        ({"dataset": "rack", "task": "dream"}, 400),
        ({"dataset": "rack", "task": "detect", "inspection": "stock"}, 400),
        ({"dataset": "rack", "inspection": "none"}, 400),
        ({"dataset": "rack", "backbone": "resnet"}, 400),
        ({"dataset": "rack", "task": "detect", "backbone": "dinov2"}, 400),
        (
            {"dataset": "rack", "task": "classify", "backbone": "dinov2", "settings": {"tune": 1}},
            400,
        ),
    ],
)
@pytest.mark.usefixtures("version")
def test_a_run_that_makes_no_sense_is_a_problem(
    client: TestClient, body: dict[str, object], status: int
) -> None:
    answer = client.post("/api/v1/runs", json=body)
    assert answer.status_code == status
    assert client.get("/api/v1/runs").json()["items"] == []


def test_figures_of_a_long_run_stay_bounded() -> None:
    from lineside.hub.learning.jobs import _moved

    view = RunView(
        id="run_1", state="running", task="multilabel", dataset="rack", version=1,
        inspection="stock", seed=7, started_at=FakeClock().now(), started_by="anna",
    )  # fmt: skip
    for step in range(3000):
        view = _moved(view, {"percent": step / 30, "loss": float(step)})
    assert len(view.history) <= 500
    assert view.history[-1][1] == 2999.0


def test_commands_start_cancel_and_resume_a_training(
    watcher: Watcher, plan: Callable[..., None], version: int, lineside: Callable[..., Any]
) -> None:
    plan(wait_at=2)
    words = (
        "--version", str(version), "--seed", "3", "--setting", "tune=1", "--backbone", "parts",
        "--task", "classify", "--inspection", "rack",
    )  # fmt: skip
    started = lineside("training", "start", "rack", *words, role=Role.ENGINEER)
    run = started["id"]
    assert (started["state"], started["seed"], started["started_by"], started["backbone"]) == (
        "running", 3, "some engineer", "parts",
    )  # fmt: skip
    assert lineside("training", "start", "rack")[0] == 4
    watcher.until(run, lambda view: view.percent == 50.0)
    lineside("training", "cancel", run, role=Role.ENGINEER)
    assert watcher.ended(run).state == "cancelled"
    plan()
    assert lineside("training", "resume", run, role=Role.ENGINEER, text=True) == f"{run}: running"
    done = watcher.ended(run)
    assert done.state == "done"
    (listed,) = lineside("training", "list", role=Role.VIEWER)["runs"]
    assert (listed["id"], listed["package"]) == (run, done.package)
    assert f"{run}  done   100      rack/{version}" in lineside("training", "list", text=True)
    assert lineside("training", "start", "rack", "--setting", "tune")[0] == 2
    status, said = lineside("training", "start", "rack", "--setting", "tune=1")
    assert (status, "the task multilabel has no setting 'tune'" in said) == (2, True)


@pytest.mark.slow
def test_a_run_at_the_hub_makes_the_package_of_the_command(
    config: HubConfig, plant: Plant, clock: FakeClock, bus: Bus, *, tmp_path: Path,
    jpeg: Callable[..., bytes],
) -> None:  # fmt: skip
    """Same network, licence and parity."""
    from lineside.hub.learning.datasets import Teaching

    file = written(tmp_path / "net", {8: 24, 16: 32})
    stored = replace(
        config, records=SecretUrl(f"sqlite:///{tmp_path}/own.db"),
        blobs=SecretUrl(f"file://{tmp_path}/blobs"),
        backbones={"tiny": str(file)},
    )  # fmt: skip
    settings = {"power_pictures": 1}
    request = RunRequest(dataset="rack", task="anomaly", settings=settings, backbone="tiny")
    with open_hub(stored, plant=plant, clock=clock) as services:
        services.join(bus, base_url="http://hub.test")
        sender = Line(services, clock)
        for seed in range(8):
            sender.wait(1.0)
            sender.send(sender.camera(jpeg("blue", seed=seed)))
        rows = tuple(row.id for row in services.frames.page())
        services.datasets.teach("rack", Teaching(frames=rows, labels=("blue",)), by="anna")
        services.labelling.declare("rack", LabelList(task="anomaly", good=("blue",)))
        services.datasets.freeze("rack", by="anna")
        watcher = Watcher(services)
        run = services.runs.start(request, by="anna").id
        services.runs._children[run].process.wait(5 * LONG_S)
        done = watcher.ended(run)
        assert (done.state, done.reason) == ("done", "")
        of_hub = Package.read(services.packages.content(done.package))
    out = tmp_path / "own.lspkg"
    stores = ("--records", f"sqlite:///{tmp_path}/own.db", "--blobs", f"file://{tmp_path}/blobs")
    words = ("--data", "dataset://rack/1", "--good", "blue", "--backbone", str(file))
    few = ("--setting", "power_pictures=1")
    assert _run(["train", "--task", "anomaly", *few, *words, *stores, "--out", str(out)]) == 0
    of_command = Package.read(out.read_bytes())
    lineage = of_hub.manifest.lineage
    assert (lineage.weights, lineage.weights_licence) == ("tiny", "LicenseRef-ours")
    assert "LicenseRef-ours" in of_hub.files[of_hub.manifest.sbom_file].decode()
    of_anna = replace(of_command.manifest.lineage, created_at=lineage.created_at, trained_by="anna")
    assert of_hub.manifest.engine == of_command.manifest.engine
    assert lineage == of_anna
    assert of_hub.manifest.metrics == of_command.manifest.metrics
