"""Training runs: each a child process that speaks JSON lines, so that its death leaves us alive.

1. A run's folder holds everything the training needs to go on; the record in the store says how
   far it came. Cancelled, killed, or left behind by a dead hub: the same folder resumes.
2. One run at a time: training takes every core there is.
3. A run that was ``running`` when the hub died is looked at on the next start: finished work is
   taken over, the rest is marked with its reason; an orphan still at work is ended first.
4. A named inspection is trained as the plant file declares it; a task in the request must be its
   task. Without a name, the only inspection of that task (of any, if none is requested).
5. With a task that no inspection has, the whole image is judged by the defaults; the names of
   ``multilabel`` and ``classify`` are then the version's labels. So it is for an inspection that
   has the dataset's name and that the plant file is still to get.
6. A re-training rule (``[[retrain]]`` of the hub's file) starts a run on a new dataset version or
   on drift. While another run is active, only the newest request of each rule waits. A version that
   is frozen for a run (``RunRequest.freeze``) starts no other.
7. The result of a rule is never taken into use by itself: a person approves.
8. A request chooses a backbone by a name of the hub's settings. The job has what the name stands
   for at the start of the run, and keeps it when it is resumed.
"""

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lineside.core import (
    Clock,
    ConflictError,
    Inspection,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    Task,
    UnavailableError,
    decode,
    decode_json,
    encode,
    new_id,
    rfc3339,
    to_plain,
)
from lineside.core.drivers import check_learner, check_seed, resolve_backbone
from lineside.core.worker import Worker, retry
from lineside.datasets import Library, Sample
from lineside.hub.children import ChildSettings, why_it_failed
from lineside.hub.config import RetrainRule
from lineside.hub.models.model_service import ModelService, Registration
from lineside.hub.models.packages import Packages
from lineside.hub.views import RunView
from lineside.models.versions import check_group
from lineside.store import Document, Records
from lineside.streams import Event

_NAMED = (Task.MULTILABEL, Task.CLASSIFY)


def inspection_for(
    plant: Plant, dataset: str, samples: Sequence[Sample], *, inspection: str, task: str,
    good: Collection[str] = (),
) -> Inspection:  # fmt: skip
    """Return the inspection to train on those samples of a dataset.

    ``good``: the labels that people called good in its dataset, where the plant lacks the
    inspection.

    Raises:
        InvalidError: no such task or inspection, several that could be meant, or no labels.
    """
    asked, found = task_for(plant, dataset, inspection=inspection, task=task)
    return found or _whole_picture(dataset, samples, asked, good=good)


def task_for(
    plant: Plant, dataset: str, *, inspection: str, task: str
) -> tuple[Task, Inspection | None]:
    """Return the task to train on a dataset, and the plant file's inspection of it, if any.

    Raises:
        InvalidError: no such task or inspection, or several that could be meant.
    """
    asked = _task(task)
    is_new = inspection not in {one.id for one in plant.inspection}
    if is_new and inspection == dataset and asked is not None:
        return asked, None
    if inspection:
        found = plant.find_inspection(inspection)
        if asked is not None and found.task is not asked:
            raise InvalidError(
                f"inspection {found.id} is of task {found.task}",
                where="task",
                fix=f"Write {found.task}, or leave the task out.",
            )
        return found.task, found
    fitting = [one for one in plant.inspection if asked is None or one.task is asked]
    if len(fitting) == 1:
        return fitting[0].task, fitting[0]
    if fitting or asked is None:
        known = ", ".join(one.id for one in plant.inspection)
        raise InvalidError(
            "no inspection named", where="inspection", fix=f"Known: {known}." if known else ""
        )
    return asked, None


def _task(word: str) -> Task | None:
    try:
        return Task(word) if word else None
    except ValueError:
        known = ", ".join(str(task) for task in Task)
        raise InvalidError(f"no task {word!r}", where="task", fix=f"Known: {known}.") from None


def _whole_picture(
    dataset: str, samples: Sequence[Sample], task: Task, *, good: Collection[str]
) -> Inspection:
    labels: tuple[str, ...] = ()
    if task in _NAMED:
        labels = tuple(sorted({name for sample in samples for name in sample.labels}))
        if not labels:
            raise InvalidError(
                f"no picture of {dataset} has a label",
                where="dataset",
                fix="Label some, or choose another task.",
            )
    named = tuple(one for one in good if not labels or one in labels)
    return Inspection(id=dataset, camera="", task=task, labels=labels, good=named)


logger = logging.getLogger(__name__)

_KIND = "run"
_MOST_HISTORY = 500
_MOST_LOG_LINES = 20
_MOST_LOG_BYTES = 16_384
_KILL_AFTER_S = 20.0
_SAVE_EVERY_S = 1.0
_MOST_RUNS = 1000
_OVERLAP = timedelta(seconds=60)

RunListener = Callable[[RunView], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Request of a training run; ``version`` 0 is the newest.

    Attributes:
        task: "" for that of the inspection.
        inspection: "" for the only one of the task; without any, the whole image of the dataset.
            One of the dataset's own name may still be missing in the plant file where a task is
            given.
        register_as: the group of models that the package becomes the next version of; the run then
            names it (``version_name``); "" for none.
        settings: of the task's learner by name, such as ``tune``.
        freeze: whether the draft becomes the version that is trained on; where nobody said how it
            is split, 30 of 100 pictures are held out.
        backbone: a name of the hub's setting ``backbones``; "" for the network that comes with
            lineside.
    """

    dataset: str
    task: str = ""
    version: int = 0
    inspection: str = ""
    seed: int = 7
    register_as: str = ""
    settings: Mapping[str, float] = field(default_factory=dict)
    freeze: bool = False
    backbone: str = ""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.register_as:
            check_group(self.register_as)
        if self.freeze and self.version:
            raise InvalidError(
                "a version and a new one", where="freeze", fix="Leave the version out."
            )


@dataclass(slots=True, kw_only=True)
class _Child:
    """A child at work."""

    process: subprocess.Popen[bytes]
    worker: Worker
    cancelled: bool = False


class Runs:
    """Training runs; safe from several threads."""

    def __init__(
        self, records: Records, *, settings: ChildSettings, plant: Plant, library: Library,
        packages: Packages, models: ModelService, clock: Clock, hub: str,
        device: str, backbones: Mapping[str, str],
    ) -> None:  # fmt: skip
        """Take the parts; ``hub`` is the name of this hub among those at the records.

        ``device``, ``backbones``: that networks learn on, as in the settings.
        """
        self.backbones = {name: resolve_backbone(named) for name, named in backbones.items()}
        self._hub, self._device = hub, device
        self._shared = records.shared
        self._read_at: datetime | None = None
        self._documents = records.documents
        self._settings = settings
        self._plant = plant
        self._library = library
        self._packages = packages
        self._models = models
        self._clock = clock
        self._lock = threading.RLock()
        self._views: dict[str, RunView] = {}
        self._children: dict[str, _Child] = {}
        self._listeners: list[RunListener] = []
        self._saved_s = 0.0
        self._closing = False

    def listen(self, listener: RunListener) -> None:
        """Call with a run whenever it moved on."""
        self._listeners.append(listener)

    # ---- asking

    def all(self) -> tuple[RunView, ...]:
        """Newest first."""
        with self._lock:
            return tuple(sorted(self._views.values(), key=lambda run: run.id, reverse=True))

    def one(self, run_id: str) -> RunView:
        """``NotFoundError`` if there is none."""
        with self._lock:
            if run_id not in self._views:
                raise NotFoundError("no such run", where=run_id, fix="List /api/v1/runs.")
            return self._views[run_id]

    def load(self) -> None:
        """After a start: read the records, settle what this hub left behind."""
        for document in self._documents.page(_KIND, limit=_MOST_RUNS):
            view = decode(RunView, document.body["view"], where=f"run {document.id}")
            with self._lock:
                self._views[view.id] = view
            if view.state == "running" and self._is_mine(document):
                self._settle(view, pid=int(document.body.get("pid", 0)))

    def refresh(self) -> None:
        """Read what other hubs of the site wrote of their runs since the last time."""
        begun = self._clock.now()
        since = self._read_at - _OVERLAP if self._read_at else None
        for document in self._documents.page(_KIND, limit=_MOST_RUNS, since=since):
            if self._is_mine(document):
                continue
            view = decode(RunView, document.body["view"], where=f"run {document.id}")
            with self._lock:
                known, self._views[view.id] = self._views.get(view.id), view
            if known != view:
                self._tell(view)
        self._read_at = begun

    def _is_mine(self, document: Document) -> bool:
        """Return True where this hub, or one that is gone, owns the run."""
        return not self._shared or document.body.get("hub", self._hub) == self._hub

    # ---- moving

    def start(self, request: RunRequest, *, by: str) -> RunView:
        """Train a data set version in a child process.

        Raises:
            ConflictError: another run is at work.
            InvalidError, NotFoundError: no such task, inspection, data set, version, backbone or
                setting of the learner, or a group of models of another task.
        """
        version = self._library.version(request.dataset, request.version)
        inspection, backbone = self._plan(request, version.samples)
        run_id = new_id("run", clock=self._clock)
        view = RunView(
            id=run_id, state="running", task=str(inspection.task), dataset=request.dataset,
            version=version.number, inspection=inspection.id, seed=request.seed,
            started_at=self._clock.now(), started_by=by, stage="starting",
            register_as=request.register_as, backbone=request.backbone,
        )  # fmt: skip
        with self._lock:
            self.check_free()
            self._write_job(view, inspection, settings=request.settings, backbone=backbone)
            self._spawn(view)
        self._tell(view)
        return view

    def check(self, request: RunRequest) -> None:
        """Refuse what could not start on the draft of its dataset.

        Raises:
            ConflictError: another run is at work.
            InvalidError, NotFoundError: as ``start``.
        """
        self.check_free()
        self._plan(request, self._library.draft(request.dataset).samples)

    def _plan(self, request: RunRequest, samples: Sequence[Sample]) -> tuple[Inspection, str]:
        """Return the inspection to train, and the file or entry point of the backbone, if any."""
        inspection = inspection_for(
            self._plant, request.dataset, samples, inspection=request.inspection,
            task=request.task, good=self._library.purpose(request.dataset)[1],
        )  # fmt: skip
        if request.backbone and request.backbone not in self.backbones:
            raise InvalidError(
                f"no backbone {request.backbone!r}", where="backbone",
                fix=f"Known: {', '.join(self.backbones) or 'none'}. The hub's settings name them.",
            )  # fmt: skip
        named = self.backbones.get(request.backbone, "")
        check_learner(inspection.task, settings=request.settings, backbone=named)
        self._models.check_task(request.register_as, inspection.task)
        return inspection, named

    def cancel(self, run_id: str) -> RunView:
        """Ask a run to stop after its step; it can be resumed."""
        view = self.one(run_id)
        with self._lock:
            child = self._children.get(run_id)
            if child is None and view.state == "running":
                raise ConflictError(
                    "another hub of the site trains it", where=run_id, fix="Cancel it there."
                )
            if child is None:
                raise ConflictError(f"the run is {view.state}", where=run_id, fix="Nothing to do.")
            child.cancelled = True
        self._end(child.process)
        child.worker.join(_KILL_AFTER_S)
        return self.one(run_id)

    def resume(self, run_id: str) -> RunView:
        """Go on with a run that did not finish, in its own folder."""
        view = self.one(run_id)
        if not view.resumable:
            raise ConflictError(
                f"the run is {view.state} and cannot go on", where=run_id,
                fix="Correct what its reason names, if it failed, and start a new run.",
            )  # fmt: skip
        view = replace(view, state="running", reason="", ended_at=None, stage="resuming")
        with self._lock:
            self.check_free()
            self._spawn(view)
        self._tell(view)
        return view

    def close(self) -> None:
        """End every child; their runs can be resumed."""
        with self._lock:
            self._closing = True
            children = list(self._children.values())
        for child in children:
            child.cancelled = True
            self._end(child.process)
        for child in children:
            child.worker.join()

    # ---- the child

    def check_free(self) -> None:
        """Refuse another run while one is at work, with ``ConflictError``."""
        if self._closing:
            raise ConflictError("the hub is stopping", where="runs", fix="Start it again.")
        for run_id in self._children:
            raise ConflictError(
                f"run {run_id} is at work", where=run_id, fix="Wait for it, or cancel it."
            )

    def folder(self, run_id: str) -> Path:
        """Where a run's files stand."""
        return self._settings.folder / run_id

    def _write_job(
        self, view: RunView, inspection: Inspection, *, settings: Mapping[str, float],
        backbone: str,
    ) -> None:  # fmt: skip
        folder = self.folder(view.id)
        folder.mkdir(parents=True, exist_ok=True)
        job = {
            "schema": "lineside.train-job/1",
            "inspection": to_plain(inspection),
            "data": f"dataset://{view.dataset}/{view.version}",
            "seed": view.seed,
            "created_at": rfc3339(view.started_at),
            "trained_by": view.started_by,
            "settings": dict(settings),
            "backbone": backbone,
            "device": self._device if inspection.task.teaches_network else "cpu",
        }
        (folder / "job.json").write_bytes(encode(job))

    def _spawn(self, view: RunView) -> None:
        folder = self.folder(view.id)
        command = [
            *self._settings.command, "--job", str(folder), "--json-lines",
            "--cache", str(self._settings.folder / "features"),
        ]  # fmt: skip
        with (folder / "stderr.log").open("wb") as errors:
            process = subprocess.Popen(  # noqa: S603  our own interpreter and module
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                env=self._settings.environment,
            )  # fmt: skip
        worker = Worker("training-run", lambda: self._follow(view.id, process), every_s=None)
        self._children[view.id] = _Child(process=process, worker=worker)
        self._put(view, pid=process.pid)
        logger.info("run started run=%s pid=%d", view.id, process.pid)
        worker.start()

    def _follow(self, run_id: str, process: subprocess.Popen[bytes]) -> None:
        """Note the progress and the end of a child; a store that is away ends no training."""
        with self._lock:
            child = self._children[run_id]
        try:
            assert process.stdout is not None  # noqa: S101  opened as a pipe
            with process.stdout:
                for line in process.stdout:
                    self._note_progress(run_id, line)
            code = process.wait()
            retry(lambda: self._finish(run_id, child, code=code), stop=child.worker.stopping)
        except UnavailableError:
            raise  # the hub stops before the store came back: the next one closes the run
        except Exception as error:  # boundary
            logger.exception("run could not be followed run=%s", run_id)
            process.kill()
            process.wait()
            self._close_run(run_id, "failed", reason=str(error))

    def _note_progress(self, run_id: str, line: bytes) -> None:
        try:
            told = decode_json(line, where=run_id)
        except InvalidError:
            return
        if not isinstance(told, dict) or "percent" not in told:
            return
        with self._lock:
            view = _moved(self._views[run_id], told)
            self._views[run_id] = view
            due = self._clock.monotonic() - self._saved_s >= _SAVE_EVERY_S
            if due:
                self._saved_s = self._clock.monotonic()
                with contextlib.suppress(UnavailableError):  # the next line tells it again
                    self._put(view, pid=self._children[run_id].process.pid)
        self._tell(view)

    def _finish(self, run_id: str, child: _Child, *, code: int) -> None:
        if child.cancelled:
            self._close_run(run_id, "cancelled", reason="cancelled; it can be resumed")
        elif code != 0:
            self._close_run(
                run_id, "failed", reason=self._why(run_id, code),
                refused=code == InvalidError.exit_code,
            )  # fmt: skip
        else:
            self._take_result(run_id)

    def _take_result(self, run_id: str) -> None:
        folder, view = self.folder(run_id), self.one(run_id)
        try:
            facts = decode_json((folder / "result.json").read_bytes(), where=run_id)
            package = self._packages.add(
                (folder / "package.lspkg").read_bytes(), by=view.started_by
            )
        except UnavailableError:
            raise
        except (OSError, LinesideError) as error:
            self._close_run(run_id, "failed", reason=f"no usable package: {error}")
            return
        version, reason = self._registered(view, package.digest)
        self._close_run(
            run_id, "done", package=package.digest, metrics=facts.get("metrics", {}),
            reason=reason, version=version,
        )  # fmt: skip

    def _registered(self, view: RunView, digest: str) -> tuple[str, str]:
        """(version, why there is none): where the run asked for one, and once however often."""
        if not view.register_as:
            return "", ""
        evidence = {"run": view.id, "dataset": f"{view.dataset}/{view.version}"}
        if view.backbone:
            evidence["backbone"] = view.backbone
        wished = Registration(package=digest, evidence=evidence)
        try:
            version = self._models.register(view.register_as, wished, by=view.started_by)
        except UnavailableError:
            raise
        except LinesideError as error:
            return "", f"the package is there, and was not registered: {error}"
        return version.name, ""

    def _why(self, run_id: str, code: int) -> str:
        said = why_it_failed(self._log(run_id), code=code)
        if code < 0:
            return f"{said}; it can be resumed"
        return f"the training process ended with code {code}: {said}"

    def _log(self, run_id: str) -> tuple[str, ...]:
        try:
            with (self.folder(run_id) / "stderr.log").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _MOST_LOG_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return ()
        return tuple(deque((line for line in text.splitlines() if line.strip()), _MOST_LOG_LINES))

    def _close_run(
        self, run_id: str, state: str, *, reason: str = "", package: str = "",
        metrics: dict[str, Any] | None = None, version: str = "", refused: bool = False,
    ) -> None:  # fmt: skip
        with self._lock:
            view = replace(
                self._views[run_id], state=state, reason=reason, package=package,
                metrics=metrics or {}, ended_at=self._clock.now(), eta_s=None,
                log=self._log(run_id), version_name=version, refused=refused,
            )  # fmt: skip
            if state == "done":
                view = replace(view, percent=100.0, stage="done")
            self._put(view, pid=0)
            self._children.pop(run_id, None)
        self._tell(view)
        logger.info("run ended run=%s state=%s reason=%s", run_id, state, reason)

    def _put(self, view: RunView, *, pid: int) -> None:
        """Keep the record; the lock is held, so nobody is told yet."""
        self._views[view.id] = view
        body = {"view": to_plain(view), "pid": pid, "hub": self._hub}
        self._documents.put(_KIND, view.id, body=body)

    def _tell(self, view: RunView) -> None:
        """The lock is not held: a listener may ask back."""
        for listener in self._listeners:
            listener(view)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(timeout=_KILL_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def _settle(self, view: RunView, *, pid: int) -> None:
        """A run of a hub that is no more."""
        _end_orphan(pid, folder=self.folder(view.id))
        if (self.folder(view.id) / "result.json").exists():
            self._take_result(view.id)
        else:
            self._close_run(
                view.id, "failed", reason="the hub stopped while it ran; it can be resumed"
            )


def _moved(view: RunView, progress: dict[str, Any]) -> RunView:
    percent = _number(progress.get("percent")) or 0.0
    loss, held_out = _number(progress.get("loss")), _number(progress.get("held_out"))
    # A run that was resumed may do its last step once more.
    before = tuple(point for point in view.history if point[0] < percent)
    history = (*before, (percent, loss, held_out))
    if len(history) > _MOST_HISTORY:
        history = (*history[:-1][::2], history[-1])
    return replace(
        view, percent=percent, eta_s=_number(progress.get("eta_s")), history=history,
        stage=str(progress.get("stage", ""))[:200], loss=loss if loss is not None else view.loss,
        held_out=held_out if held_out is not None else view.held_out,
    )  # fmt: skip


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _end_orphan(pid: int, *, folder: Path) -> None:
    """End a child whose hub died; the command line must name its folder, pids come again."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes() if pid else b""
        if str(folder).encode() in command.split(b"\0"):
            os.kill(pid, signal.SIGKILL)
            logger.warning("orphaned training process ended pid=%d", pid)
    except (OSError, ValueError):
        return


BY = "re-training rule"


class Retraining:
    """Rules and the wishes they have; safe from several threads."""

    def __init__(self, rules: tuple[RetrainRule, ...], *, runs: Runs) -> None:
        """Hear of runs that end from now on."""
        self._rules = rules
        self._runs = runs
        self._lock = threading.Lock()
        self._waiting: dict[RetrainRule, RunRequest] = {}
        runs.listen(self._run_moved)

    def version_frozen(self, dataset: str, number: int) -> None:
        """Start what the rules of that dataset ask for, or let it wait."""
        for rule in self._rules:
            if rule.dataset == dataset:
                self._request_run(rule, version=number)

    def drifted(self, event: Event) -> None:
        """A running inspection drifted: start its rules that say so, on their newest version."""
        inspection = str(event.data.get("inspection", ""))
        for rule in self._rules:
            if rule.on_drift and inspection and rule.inspection == inspection:
                logger.info("re-training asked for inspection=%s event=%s", inspection, event.id)
                self._request_run(rule, version=0)

    def _request_run(self, rule: RetrainRule, *, version: int) -> None:
        request = RunRequest(
            dataset=rule.dataset, task=rule.task, version=version, inspection=rule.inspection,
            register_as=rule.register_as, backbone=rule.backbone,
        )  # fmt: skip
        with self._lock:
            self._waiting[rule] = request
        self._try()

    def _run_moved(self, view: RunView) -> None:
        if view.state != "running":
            self._try()

    def _try(self) -> None:
        """Start the first wish that can be; what is refused is said and forgotten."""
        with self._lock:
            wishes = list(self._waiting.items())
        for rule, request in wishes:
            try:
                run = self._runs.start(request, by=BY)
            except ConflictError:
                return  # another run is at work; its end tries again
            except LinesideError as error:
                logger.warning("re-training refused dataset=%s reason=%s", rule.dataset, error)
            else:
                logger.info("re-training started run=%s dataset=%s", run.id, rule.dataset)
            self._forget(rule, request)

    def _forget(self, rule: RetrainRule, request: RunRequest) -> None:
        """Unless a newer wish came meanwhile."""
        with self._lock:
            if self._waiting.get(rule) == request:
                del self._waiting[rule]
