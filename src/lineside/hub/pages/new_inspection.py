"""Page that leads from a question to an inspection in use: which step is done, which is next.

1. Nothing is kept for the flow itself. Its state is the dataset of the name, its newest run, the
   versions of the model of that name, and the plant file: it can be left at any time, and several
   people can go on with it.
2. A step is done when what it makes is there; the first that is not done is next. Every step can be
   opened again, to add pictures or to train once more.
3. A step that a person may not do stays visible with the role that it needs.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lineside.core import Inspection, Task
from lineside.datasets import Sample, label_names
from lineside.hub.devices.local_device import LocalDeviceState
from lineside.hub.learning.labelling import (
    LabelNeed,
    can_train,
    guess_good,
    label_needs,
    progress_of,
)
from lineside.hub.pages.learning import RUN_WORDS, backbone_choices
from lineside.hub.pages.models import OpenDecisions, open_decisions, version_mark
from lineside.hub.pages.site import Context, NoPageError, PageContext
from lineside.hub.services import Services
from lineside.hub.views import CameraView, RunView
from lineside.models import ModelVersion
from lineside.models.result import Confusion, MeasuredResult, Mistake
from lineside.vision import Prediction
from lineside.vision.decide import says_good
from lineside.vision.verdict import RejectRule, reject_rule
from lineside.web.answers import answer_text
from lineside.web.format import counted, number

router = APIRouter(prefix="/inspections/new")

UNSURE = "unsure"
_SHOWN = 6
_MOST_CLASSES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of a person who wants an inspection, and the task that answers it.

    Attributes:
        labels: that the answer begins with; people may name others where ``names`` is set.
        about: what people have to show it.
    """

    key: str
    text: str
    task: Task
    labels: tuple[str, ...]
    about: str
    names: bool = False


QUESTIONS = (
    Question(
        key="good-or-bad", text="Is the part good or bad?", task=Task.CLASSIFY,
        labels=("good", "bad"), names=True,
        about="Show it good and bad parts. It says which one a part is, or that it is unsure.",
    ),
    Question(
        key="only-good", text="I have only good parts", task=Task.ANOMALY,
        labels=("good", "defect"),
        about="It learns how good parts look and rejects what differs. Some bad ones say how well.",
    ),
    Question(
        key="kind", text="Which kind is it?", task=Task.CLASSIFY, labels=(), names=True,
        about="Show it pictures of each kind. It says exactly one of them.",
    ),
    Question(
        key="defect", text="Where is the defect?", task=Task.SEGMENT, labels=("good", "defect"),
        about="Paint the defects of some parts. It says whether there is one, and where.",
    ),
    Question(
        key="objects", text="What is where?", task=Task.DETECT, labels=(), names=True,
        about="Draw boxes around things. It finds them in other pictures.",
    ),
    Question(
        key="count", text="How many are there?", task=Task.COUNT, labels=(),
        about="Say of each picture how many it shows. It says a number with a range.",
    ),
    Question(
        key="present", text="Is everything there?", task=Task.MULTILABEL, labels=(), names=True,
        about="Name what has to be there. It says of each thing whether it is present.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChoice:
    """Effort of a training: settings of the task's learner."""

    text: str
    about: str
    settings: Mapping[str, float]


_QUICK = "Quick"
_THOROUGH = TrainingChoice(
    text="Thorough", about="Tries everything that the task knows.", settings={}
)
CHOICES: Mapping[Task, tuple[TrainingChoice, ...]] = {
    Task.CLASSIFY: (
        TrainingChoice(
            text=_QUICK, about="A minute or two. Good enough to see whether it can work.",
            settings={"tune": 0},
        ),
        _THOROUGH,
    ),
    Task.DETECT: (
        TrainingChoice(text=_QUICK, about="A few rounds only.", settings={"epochs": 10}),
        _THOROUGH,
    ),
    Task.SEGMENT: (
        TrainingChoice(text=_QUICK, about="A few rounds only.", settings={"steps": 100}),
        _THOROUGH,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowState:
    """State of a new inspection.

    Attributes:
        name: of dataset, inspection and model.
        task: None where nobody declared it.
        pictures: of the draft; ``open_pictures`` still to label.
        run: the newest of this inspection; ``done`` the newest that ended well.
        good: labels that people said mean a good part; empty where nobody did.
        version: the one that ``done`` became; None where there is none.
        inspection: of the plant file; None until it is there.
        used: whether the package of ``done`` is in use.
    """

    name: str
    task: Task | None
    pictures: int = 0
    open_pictures: int = 0
    needs: tuple[LabelNeed, ...] = ()
    good: tuple[str, ...] = ()
    run: RunView | None = None
    done: RunView | None = None
    version: ModelVersion | None = None
    inspection: Inspection | None = None
    used: bool = False

    @property
    def can_train(self) -> bool:
        """Return whether a training has what it cannot do without."""
        return self.task is not None and can_train(self.needs, task=self.task)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Return the needs of a training that are not met, label by label."""
        return tuple(text for need in self.needs for text in need.lacking)

    @property
    def expectable(self) -> tuple[str, ...]:
        """Return the answers of presence to expect of a good part, where none rejects yet."""
        one = self.inspection
        if one is None or one.task is not Task.MULTILABEL or one.reject or one.expected is not None:
            return ()
        return label_names(one)

    @property
    def is_labelled(self) -> bool:
        """Return whether no more labels are wanted, none can be given, or a training was begun."""
        enough = not self.open_pictures or not any(need.missing for need in self.needs)
        return self.can_train and (enough or self.run is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowStep:
    """A step with how far it is, in words; ``state``: done, now or todo."""

    key: str
    title: str
    detail: str
    state: str


def flow_steps(state: FlowState) -> tuple[FlowStep, ...]:
    """Return every step in order; the first that is not done is the one to do now."""
    version = state.version
    labelled = state.pictures - state.open_pictures
    is_running = state.run is not None and state.run.state == "running"
    facts = (
        ("question", "Question", state.task is not None, str(state.task or "choose")),
        ("pictures", "Pictures", state.pictures > 0, number(state.pictures)),
        (
            "labels", "Labels", state.is_labelled,
            f"{number(labelled)} of {number(state.pictures)}" if state.pictures else "",
        ),
        (
            "training", "Training", state.done is not None and not is_running,
            state.run.state if state.run else "",
        ),
        (
            "result", "Result", version is not None and version.approved,
            "approved" if version and version.approved else "look and decide" if version else "",
        ),
        ("use", "In use", state.used, state.inspection.camera if state.inspection else ""),
    )  # fmt: skip
    found: list[FlowStep] = []
    for key, title, is_done, detail in facts:
        is_next = not is_done and all(one.state == "done" for one in found)
        step_state = "done" if is_done else "now" if is_next else "todo"
        found.append(FlowStep(key=key, title=title, detail=detail, state=step_state))
    return tuple(found)


def current_step(steps: Sequence[FlowStep], key: str = "") -> FlowStep:
    """The step asked for, else the one to do now, else the last."""
    by_key = {one.key: one for one in steps}
    now = next((one for one in steps if one.state == "now"), steps[-1])
    return by_key.get(key, now)


def flow_state(hub: Services, name: str) -> FlowState:
    """Return what there is of a new inspection.

    Raises:
        NotFoundError: no dataset of that name.
    """
    draft = hub.datasets.draft(name)
    declared = hub.labelling.own_labels(name, draft.samples)
    runs = [one for one in hub.runs.all() if one.dataset == one.inspection == name]
    done = next((one for one in runs if one.state == "done" and one.package), None)
    inspection = next((one for one in hub.plant.inspection if one.id == name), None)
    word = declared.task or (inspection.task if inspection else runs[0].task if runs else "")
    task = Task(word) if word else None
    answers = label_names(inspection) if inspection else ()
    labels = answers if inspection and inspection.region else declared.labels
    holding = hub.models.holding(done.package) if done else ()
    used = hub.packages.one(done.package).used_by if done else ()
    good = inspection.good if inspection else declared.good
    needed = frozenset(answers)
    needs = label_needs(task, labels, draft.samples, needed=needed, good=good) if task else ()
    return FlowState(
        name=name, task=task, pictures=len(draft.entries),
        open_pictures=progress_of(draft.entries).states.get("todo", 0),
        needs=needs, good=declared.good, run=runs[0] if runs else None, done=done,
        version=next((one for one in holding if one.group == name), None),
        inspection=inspection, used=name in used,
    )  # fmt: skip


# ---- the result


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionCell:
    """A number of a confusion table; ``href`` selects its mistakes, "" where it is none of them."""

    count: int
    href: str
    is_right: bool
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionRow:
    """A class with how often it was what it was called."""

    label: str
    total: int
    cells: tuple[ConfusionCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MistakeCard:
    """A mistake as a picture.

    Attributes:
        src: of the picture; "" where its name is that of none or of several pictures.
        fix: leads to its label; "" where the draft has it no more.
    """

    src: str
    alt: str
    truth: str
    answer: str
    reason: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodLabels:
    """Answers of a package with whether each means a good part.

    Attributes:
        labels: none where the inspection is in the plant file, or where every part is judged by
            another rule.
        guess: the label that is taken for the good one; "" where people or its name said so.
        why: it is.
    """

    labels: tuple[tuple[str, bool], ...] = ()
    guess: str = ""
    why: str = ""

    @property
    def rule(self) -> RejectRule | None:
        """Return the rule of the result; None: by the inspection, or by the usual words."""
        good = tuple(one for one, is_good in self.labels if is_good)
        return RejectRule(good=good) if good else None


def good_labels(state: FlowState, *, kinds: Sequence[str]) -> GoodLabels:
    """Return which answers mean a good part: as people said, by a usual word, else a guess.

    Args:
        state: of the new inspection.
        kinds: answers of its package, where it says one kind of each part; else empty.
    """
    if state.inspection is not None or not kinds:
        return GoodLabels()
    labels = tuple((one, says_good(one, named=state.good)) for one in kinds)
    if any(is_good for _, is_good in labels):
        return GoodLabels(labels=labels)
    counts = {need.label: need.count for need in state.needs}
    guess, why = guess_good({one: counts.get(one, 0) for one in kinds})
    return GoodLabels(labels=tuple((one, one == guess) for one in kinds), guess=guess, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultView:
    """The result of the newest training, with the mistakes that were chosen.

    Attributes:
        columns: answers of the table, unsure last.
        chosen: the mistakes shown, in words.
        total: of all mistakes that the package names.
    """

    result: MeasuredResult
    columns: tuple[str, ...]
    rows: tuple[ConfusionRow, ...]
    mistakes: tuple[MistakeCard, ...]
    chosen: str
    total: int


def result_view(
    name: str,
    result: MeasuredResult,
    *,
    samples: Sequence[Sample],
    drafted: Sequence[Sample],
    cell: tuple[str, str] = ("", ""),
) -> ResultView:
    """Return the result with its table and its worst mistakes.

    Args:
        name: of the dataset.
        result: of the package.
        samples: of the version that was trained on.
        drafted: of the draft, whose labels can still be changed.
        cell: label and answer of the mistakes that are shown; ("", "") for all.
    """
    truth, answer = cell
    of, table = next(iter(result.confusion.items()), ("", Confusion(classes=(), rows=())))
    is_plain = len(result.confusion) == 1 and len(table.classes) <= _MOST_CLASSES
    columns = (*table.classes, UNSURE)
    placed = [(_cell_of(one, table, of=of), one) for one in result.mistakes]
    listed = {own for own, one in placed if one.truth != one.said}
    rows = tuple(
        ConfusionRow(
            label=label, total=sum(counts),
            cells=tuple(
                ConfusionCell(
                    count=count, is_right=label == answer, is_chosen=(label, answer) == cell,
                    href=cell_href(name, label, answer) if (label, answer) in listed else "",
                )
                for answer, count in zip(columns, counts, strict=True)
            ),
        )
        for label, counts in zip(table.classes, table.rows, strict=True)
    ) if is_plain else ()  # fmt: skip
    wanted = [one for own, one in placed if not truth or own == cell]
    names = Counter(one.name for one in samples)
    digests = {one.name: one.digest for one in samples if names[one.name] == 1}
    still = {one.digest for one in drafted}
    cards: list[MistakeCard] = []
    for one in wanted[:_SHOWN]:
        digest = digests.get(one.picture, "")
        cards.append(
            MistakeCard(
                src=f"/datasets/{name}/pictures/{digest}" if digest else "",
                alt=f"Picture {one.picture}", truth=one.truth,
                answer=f"{one.said} {one.probability:.2f}", reason=one.reason,
                fix=f"/datasets/{name}/label?picture={digest}&step=result"
                if digest in still else "",
            )
        )  # fmt: skip
    chosen = f"{counted(len(wanted), 'mistake')} kept, the worst first"
    if truth:
        counts = [one.count for row in rows for one in row.cells if one.is_chosen]
        every = max([len(wanted), *counts])
        chosen = (
            f"{len(wanted)} of {counted(every, 'mistake')}, labelled {truth}, answered {answer}"
        )
        if every > len(wanted):
            chosen += f"; the worst {len(result.mistakes)} of all are kept"
    return ResultView(
        result=result, columns=columns if rows else (), rows=rows, mistakes=tuple(cards),
        chosen=chosen, total=len(result.mistakes),
    )  # fmt: skip


def _cell_of(mistake: Mistake, table: Confusion, *, of: str) -> tuple[str, str]:
    """Row and column; a mask's kinds of defect are one row, the last, which is the table's name."""
    is_kind = mistake.truth not in table.classes and of in table.classes[-1:]
    return of if is_kind else mistake.truth, mistake.said


def cell_href(name: str, truth: str, answer: str) -> str:
    """The page with the mistakes of one cell."""
    return (
        f"/inspections/new/{name}?{urlencode({'step': 'result', 'truth': truth, 'answer': answer})}"
    )


# ---- in use


@dataclass(frozen=True, slots=True, kw_only=True)
class UseView:
    """Where the inspection runs.

    Attributes:
        cameras: of the plant; ``lines`` id and name.
        devices: that report this package.
        reporting: devices of the site that report at all. ``local``: the one on this machine.
        plant_version: of the plant file that is shown.
        labels: of which people say which mean a good part, and whether the word itself does; empty
            for a task whose verdict needs none.
        answer: its newest answer in words; "" before the first. ``frame``: of that answer.
    """

    cameras: tuple[CameraView, ...]
    lines: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]
    reporting: int
    local: LocalDeviceState
    plant_version: int
    labels: tuple[tuple[str, bool], ...] = ()
    answer: str = ""
    frame: str = ""
    station: str = ""


def use_view(hub: Services, state: FlowState) -> UseView:
    """Return where the package can be put in use, and where it is."""
    package = state.done.package if state.done else ""
    running = hub.desired.running(state.name)
    newest = newest_answer(hub, state.inspection, package=package)
    camera = hub.plant.find_camera(state.inspection.camera) if state.inspection else None
    return UseView(
        cameras=hub.cameras.all(),
        lines=tuple((one.id, one.name) for one in hub.plant.line),
        devices=tuple(name for name, digest in running.items() if package and digest == package),
        reporting=hub.devices.count()[0],
        local=hub.local_device.state(),
        plant_version=hub.plants.newest().number,
        labels=tuple((one, says_good(one, named=state.good)) for one in _kinds(hub, state)),
        answer=answer_text(newest) if newest else "",
        frame=newest.frame.id if newest else "",
        station=f"/lines/{camera.line}/{camera.id}" if camera else "",
    )  # fmt: skip


def _kinds(hub: Services, state: FlowState) -> tuple[str, ...]:
    if state.done is None or state.task is not Task.CLASSIFY:
        return ()
    return hub.packages.manifest(state.done.package).labels


def newest_answer(
    hub: Services, inspection: Inspection | None, *, package: str
) -> Prediction | None:
    """The newest answer of an inspection's package on the frame that its camera shows."""
    if inspection is None:
        return None
    view = hub.cameras.one(inspection.camera)
    answers = (*((view.prediction,) if view.prediction else ()), *view.also)
    its = (one for one in answers if one.inspection == inspection.id and one.package == package)
    return next(its, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInspection:
    """A new inspection that is not in use yet."""

    name: str
    step: str


def open_inspections(hub: Services) -> tuple[OpenInspection, ...]:
    """Datasets with a declared task whose inspection is not in use yet."""
    used = {name for one in hub.packages.all() for name in one.used_by}
    names = [name for name in hub.datasets.names() if name not in used]
    declared = [name for name in names if hub.labelling.own_labels(name).task]
    states = (flow_state(hub, name) for name in declared)
    return tuple(
        OpenInspection(name=one.name, step=current_step(flow_steps(one)).title) for one in states
    )


def spans(now: datetime) -> tuple[tuple[str, str], ...]:
    """Times since which a camera's pictures are added, with their words."""
    choices = ((10, "last 10 minutes"), (60, "last hour"), (8 * 60, "last 8 hours"))
    return tuple(((now - timedelta(minutes=one)).isoformat(), text) for one, text in choices)


@router.get("")
def new_inspection_page(context: Context, *, question: str = "", name: str = "") -> HTMLResponse:
    """The questions, or the form of one; and the inspections that are not in use yet."""
    chosen = next((one for one in QUESTIONS if one.key == question), None)
    if question and chosen is None:
        raise NoPageError("No such question.", where=question, fix="Choose one on the page.")
    return context.page(
        "new_inspections.html", title="New inspection", active="new", questions=QUESTIONS,
        chosen=chosen, name=name, not_in_use=open_inspections(context.hub),
    )  # fmt: skip


@router.get("/{name}")
def new_inspection_step(
    context: Context, *, name: str, step: str = "", truth: str = "", answer: str = ""
) -> HTMLResponse:
    """One step of a new inspection: the one asked for, or the one to do now."""
    state = flow_state(context.hub, name)
    steps = flow_steps(state)
    shown = current_step(steps, step)
    return context.page(
        "new_inspection.html", title="New inspection", active="new", state=state, steps=steps,
        shown=shown, **_parts(context, state, key=shown.key, cell=(truth, answer)),
    )  # fmt: skip


def _parts(
    context: PageContext, state: FlowState, *, key: str, cell: tuple[str, str]
) -> dict[str, object]:
    """Parts that a step shows beside the state."""
    hub = context.hub
    if key == "question":
        return {"questions": QUESTIONS}
    if key == "pictures":
        cameras = [one.id for one in hub.cameras.all() if one.newest]
        return {"cameras": cameras, "spans": spans(hub.clock.now())}
    if key == "training":
        choices = CHOICES.get(state.task, ()) if state.task else ()
        backbones = backbone_choices(hub, task=str(state.task or ""))
        return {"run": state.run, "choices": choices, "backbones": backbones, **RUN_WORDS}
    if key == "result":
        return _result_parts(context, state, cell=cell)
    return {"use": use_view(hub, state)} if key == "use" else {}


def _result_parts(
    context: PageContext, state: FlowState, *, cell: tuple[str, str]
) -> dict[str, object]:
    hub, found, deciding = context.hub, None, None
    good = good_labels(state, kinds=_kinds(hub, state))
    if state.done is not None:
        rule = reject_rule(state.inspection) if state.inspection else good.rule
        result = hub.packages.result(state.done.package, rule=rule)
        version = hub.datasets.version(state.name, state.done.version)
        drafted = hub.datasets.draft(state.name).samples
        if result is not None:
            found = result_view(
                state.name, result, samples=version.samples, drafted=drafted,
                cell=cell,
            )  # fmt: skip
    if state.version is not None:
        deciding = decisions_of(context, state.version)
    mark = version_mark(state.version) if state.version else None
    return {"found": found, "deciding": deciding, "standing": mark, "good": good}


def decisions_of(context: PageContext, version: ModelVersion) -> OpenDecisions:
    """Return what this person may decide about a version, or why not."""
    why_not = context.hub.models.why_not(version, by=context.who.name)
    return open_decisions(version, who=context.who, why_not=why_not)
