"""A new inspection: which step is next, what is still wanted, and its place in the plant file."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from lineside.core import (
    Box,
    ConflictError,
    Inspection,
    InvalidError,
    Plant,
    Task,
    decode,
    digest_of,
    encode,
    parse_plant,
)
from lineside.core.drivers import check_learner
from lineside.datasets import Sample
from lineside.hub import Registration, Services
from lineside.hub.learning.datasets import Teaching
from lineside.hub.learning.jobs import RunRequest, inspection_for
from lineside.hub.learning.labelling import LabelNeed, can_train, guess_good, label_needs
from lineside.hub.pages.new_inspection import (
    CHOICES,
    QUESTIONS,
    FlowState,
    current_step,
    flow_state,
    flow_steps,
    good_labels,
    open_inspections,
    result_view,
)
from lineside.hub.setup.placement import PackagePlacement, placement_edits
from lineside.hub.setup.toml_edit import edit_text
from lineside.hub.views import RunView
from lineside.models import Manifest, Metric, Package, build_package
from lineside.models.result import (
    REPORT_FILE,
    Confusion,
    CurvePoint,
    DefectPower,
    LearningCurve,
    MeasuredResult,
    Mistake,
    PowerTest,
    SmallestSize,
    measured_result,
)
from lineside.testing import FakeClock
from lineside.testing.events import prediction_of, small_plant
from lineside.vision import Decision, LabelAnswer
from lineside.vision.prepare import Crop
from lineside.vision.verdict import PartVerdict, RejectRule, judge_prediction, reject_rule

EMPTY = 'schema = "lineside.plant/1"\nsite = "hall"\n'


def sample(name: str, *labels: str, **more: Any) -> Sample:  # noqa: ANN401  fields of a sample
    return Sample(name=name, digest=digest_of(name.encode()), labels=labels, **more)


SAMPLES = (sample("a.png", "good"), sample("b.png", "good"), sample("c.png", "bad"))


# ---- what is still wanted


def test_so_many_are_wanted_that_a_flawless_result_would_say_something() -> None:
    good, bad = label_needs("classify", ("good", "bad"), SAMPLES)

    assert (good.count, good.missing, bad.missing) == (2, 52, 53)
    assert "16 of them become the test set" in good.why
    assert "20 of 100" in good.why


@pytest.mark.parametrize(
    ("task", "counts", "enough"),
    [
        ("classify", (2, 2), False),
        ("classify", (3, 3), True),
        ("classify", (3, 3, 0), True),
        ("classify", (9, 9, 1), False),
        ("anomaly", (7, 0), False),
        ("anomaly", (8, 0), True),
        ("anomaly", (0, 9), False),
        ("count", (3,), True),
        ("segment", (2, 9), False),
        ("segment", (0, 9), False),
        ("detect", (0, 3), True),
        ("multilabel", (0, 0), False),
    ],
)
def test_a_training_needs_enough_of_every_kind_that_is_used(
    task: str,
    counts: tuple[int, ...],
    enough: bool,  # noqa: FBT001  a table
) -> None:
    names = ("good", "bad", "worse")[: len(counts)]
    least = [one.least for one in label_needs(task, names, ())] or [3]
    needs = [
        LabelNeed(label=f"{n}", count=count, wanted=54, least=few, why="")
        for n, (count, few) in enumerate(zip(counts, least, strict=False))
    ]

    assert can_train(needs, task=task) is enough


def test_each_task_counts_what_it_learns_from() -> None:
    told = {task: label_needs(task, ("good", "bad"), SAMPLES) for task in Task}

    counts = {task: [one.count for one in needs] for task, needs in told.items()}
    assert counts[Task.ANOMALY] == [2, 1]
    assert (counts[Task.COUNT], counts[Task.SEGMENT], counts[Task.DETECT]) == ([0], [0, 2], [0, 0])
    assert [one.count for one in label_needs("anomaly", (), SAMPLES, good=("bad",))] == [1, 2]


def test_presence_needs_pictures_with_and_without_each_label_that_is_used() -> None:
    every = ("cap", "label")
    full = [sample(f"{n}.png", "cap", known=every) for n in "123"]
    empty = [sample(f"{n}.png", known=every) for n in "456"]

    cap, label = label_needs("multilabel", every, full)
    assert (cap.count, cap.without, label.count, label.without) == (3, 0, 0, 3)
    assert cap.lacking == ("3 more without cap",)
    assert not can_train((cap, label), task="multilabel")
    assert can_train(label_needs("multilabel", every, full + empty), task="multilabel")
    needed = label_needs("multilabel", every, full + empty, needed={"cap", "label"})
    assert FlowState(name="x", task=Task.MULTILABEL, needs=needed).lacking == ("3 more with label",)


def test_classes_of_regions_are_counted_over_the_regions_that_share_them() -> None:
    names = ("A1/blue", "A1/gold", "A2/blue", "A2/gold", "lid")
    left = [sample(f"{n}.png", "A1/blue", "A2/gold", known=names) for n in "123"]

    blue, gold, lid = label_needs("multilabel", names, left, needed=set(names))

    assert [(one.label, one.count, one.without) for one in (blue, gold, lid)] == [
        ("blue", 3, 3), ("gold", 3, 3), ("lid", 0, 3),
    ]  # fmt: skip
    assert not can_train((blue, gold, lid), task="multilabel")


# ---- which step is next


def run(state: str = "done", package: str = "sha256:1") -> RunView:
    return RunView(
        id="run_1", state=state, task="classify", dataset="screws", version=1,
        inspection="screws", seed=7, started_at=FakeClock().now(), started_by="ada",
        package=package if state == "done" else "",
    )  # fmt: skip


def test_the_first_step_that_is_not_done_is_next_whoever_did_the_others() -> None:
    needs = label_needs(
        "classify",
        ("good", "bad"),
        [sample(f"{n}.png", one) for one in ("good", "bad") for n in "123"],
    )
    asked = FlowState(name="screws", task=None)
    shown = replace(asked, task=Task.CLASSIFY)
    some = replace(shown, pictures=5, open_pictures=1, needs=needs)
    labelled = replace(some, open_pictures=0)
    running = replace(some, run=run("running"))
    trained = replace(running, run=run(), done=run())

    states = (asked, shown, some, labelled, running, trained)
    nexts = [current_step(flow_steps(one)).key for one in states]

    assert nexts == ["question", "pictures", "labels", "training", "training", "result"]
    assert current_step(flow_steps(trained), "labels").key == "labels"
    assert [one.state for one in flow_steps(trained)] == ["done"] * 4 + ["now", "todo"]


def test_a_question_declares_the_task_of_the_dataset_and_the_page_goes_on(
    client: TestClient, hub: Services
) -> None:
    body = {"task": "classify", "labels": ["good", "bad"]}
    answer = client.post("/api/v1/datasets/screws/labels", json=body)

    assert answer.json() == {"labels": ["good", "bad"], "task": "classify", "good": []}
    assert current_step(flow_steps(flow_state(hub, "screws"))).key == "pictures"
    wrong = client.post("/api/v1/datasets/screws/labels", json={"labels": [], "task": "guess"})
    assert wrong.status_code == 400
    assert "multilabel" in wrong.json()["fix"]
    client.post("/api/v1/datasets/screws/labels", json={"labels": ["scratch"]})
    assert hub.labelling.labels("screws").task == "classify"
    page = client.get("/inspections/new", headers={"accept": "text/html"})
    assert 'href="/inspections/new/screws"' in page.text
    assert [(one.name, one.step) for one in open_inspections(hub)] == [("screws", "Pictures")]


def test_a_second_person_takes_neither_the_task_nor_the_name_of_a_flow(
    client: TestClient,
    hub: Services,
    line: Any,  # noqa: ANN401  the room's Line
    jpeg: Callable[..., bytes],
) -> None:
    address, body = "/api/v1/datasets/screws/labels", {"labels": ["good"], "task": "classify"}
    assert client.post(f"{address}?new=true", json=body).status_code == 200
    other = client.post(address, json={"labels": ["gap"], "task": "segment"})
    assert (other.status_code, "for the task classify" in other.json()["detail"]) == (409, True)
    assert hub.labelling.own_labels("screws").labels == ("good",)
    line.send(line.camera(jpeg("blue")))
    frame = hub.frames.page(camera="rack", limit=1)[0].id
    hub.datasets.teach("screws", Teaching(frames=(frame,), judged=False), by="ada")
    assert client.post(f"{address}?new=true", json=body).status_code == 409
    assert client.post(address, json=body).status_code == 200
    assert 'data-query="?new=true"' in client.get("/inspections/new?question=kind").text
    assert "new=true" not in client.get("/inspections/new?question=kind&name=screws").text


def test_regions_that_are_drawn_in_the_flow_name_the_labels_that_are_wanted(
    client: TestClient, hub: Services
) -> None:
    body = {"task": "multilabel", "labels": ["cap"]}
    client.post("/api/v1/datasets/bottles/labels", json=body)
    drawing = client.get("/regions?inspection=bottles").text
    assert 'name="id" value="bottles"' in drawing
    assert 'data-next="/inspections/new/bottles?step=labels"' in drawing
    corners = {"x0_px": 1, "y0_px": 1, "x1_px": 20, "y1_px": 20}
    values = {
        "id": "bottles", "task": "multilabel", "camera": "rack", "view.width_px": 320,
        "view.height_px": 240,
        "region": [{"id": "A1", "box_px": corners, "classes": ["open", "shut"]}],
    }  # fmt: skip

    saved = client.post(
        "/api/v1/plant", json={"section": "inspection", "values": values, "reason": "drawn"}
    )

    assert saved.status_code == 200, saved.text
    assert [one.label for one in flow_state(hub, "bottles").needs] == ["open", "shut"]
    assert hub.labelling.own_labels("bottles").labels == ("A1/open", "A1/shut")
    page = client.get("/inspections/new/bottles?step=labels").text
    assert "A1 (open or shut)" in page
    assert "3 more with open, 3 more without open" in page
    assert flow_state(hub, "bottles").expectable == ("A1/open", "A1/shut")
    using = client.get("/inspections/new/bottles?step=use").text
    assert "No answer rejects a part yet" in using
    assert 'name="values.expected" data-type="list" value="A1/shut"' in using
    for expected, shown in ((["A1/shut"], "A1/shut"), ([], "[]")):
        kept = client.post(
            "/api/v1/plant",
            json={
                "section": "inspection", "id": "bottles", "values": {"expected": expected},
                "reason": "a good bottle is shut",
            },
        )  # fmt: skip
        assert kept.status_code == 200, kept.text
        form = client.get("/setup/inspection").text
        assert f'id="bottles-expected" name="expected" value="{shown}"' in form
    assert "No answer rejects" not in client.get("/inspections/new/bottles?step=use").text
    assert "Save regions" in client.get("/regions?inspection=bottles").text


def test_answers_of_presence_are_offered_until_one_of_them_rejects() -> None:
    known = Inspection(id="bottles", camera="top", task=Task.MULTILABEL, labels=("cap", "dent"))
    state = FlowState(name="bottles", task=Task.MULTILABEL, inspection=known)

    assert state.expectable == ("cap", "dent")
    for judged in (replace(known, reject=("dent",)), replace(known, expected=("cap",))):
        assert replace(state, inspection=judged).expectable == ()
    assert replace(state, inspection=None).expectable == ()
    kinds = replace(known, task=Task.CLASSIFY)
    assert replace(state, inspection=kinds).expectable == ()


def test_labels_of_other_inspections_are_not_wanted(client: TestClient, hub: Services) -> None:
    body = {"task": "classify", "labels": ["blue", "gold"]}  # the plant has blue among others
    client.post("/api/v1/datasets/screws/labels", json=body)

    assert [one.label for one in flow_state(hub, "screws").needs] == ["blue", "gold"]


def test_every_question_leads_to_a_task_and_every_choice_to_settings_of_it() -> None:
    assert {one.task for one in QUESTIONS} == set(Task)
    for task, choices in CHOICES.items():
        for choice in choices:
            check_learner(task, settings=choice.settings)


# ---- training


def test_an_inspection_still_to_come_is_trained_under_the_name_of_its_dataset(
    plant: Plant,
    hub: Services,
    line: Any,  # noqa: ANN401  the room's Line
    jpeg: Callable[..., bytes],
) -> None:
    line.send(line.camera(jpeg("blue")))
    frame = hub.frames.page(camera="rack", limit=1)[0].id
    teaching = Teaching(frames=(frame,), labels=("blue",))
    hub.datasets.teach("screws", teaching, by="ada")
    hub.datasets.freeze_to_train("screws", by="ada")
    version = hub.datasets.version("screws", 0)

    train = partial(inspection_for, plant, "screws", version.samples)
    found = train(inspection="screws", task="multilabel")

    assert (found.id, found.task, found.labels) == ("screws", Task.MULTILABEL, ("blue",))
    assert train(inspection="stock", task="").id == "stock"
    named = train(inspection="screws", task="anomaly", good=("i.O.",))
    assert named.good == ("i.O.",)
    assert version.parting is not None
    assert dict(version.parting.shares) == {"train": 0.7, "test": 0.3}
    assert version.parting.is_default
    line.send(line.camera(jpeg("red")))
    frame = hub.frames.page(camera="rack", limit=1)[0].id
    hub.datasets.teach("screws", replace(teaching, frames=(frame,)), by="ada")
    hub.datasets.freeze("screws", by="ada")  # on the dataset's page: the test set stays
    later = hub.datasets.version("screws", 0)
    assert (later.number, later.parting) == (2, version.parting)
    assert all(set(held) <= set(later.splits[part]) for part, held in version.splits.items())


def test_a_request_to_freeze_names_no_version() -> None:
    with pytest.raises(InvalidError, match="a new one"):
        RunRequest(dataset="screws", version=2, freeze=True)


# ---- the result


def measured(*mistakes: Mistake, of: str = "screws") -> MeasuredResult:
    table = Confusion(classes=("good", "bad"), rows=((8, 1, 1), (2, 8, 0)))
    found = measured_result(
        "classify", confusion={of: table}, metrics={}, mistakes=mistakes, pictures=20
    )
    assert found is not None
    return found


def test_a_cell_of_the_table_selects_its_mistakes_as_pictures() -> None:
    missed = Mistake(picture="c.png", truth="bad", said="good", probability=0.9)
    doubt = Mistake(picture="gone.png", truth="good", said="unsure", probability=0.6)
    of_flow = result_view(
        "screws",
        measured(missed, doubt),
        samples=SAMPLES,
        drafted=SAMPLES[:2],
        cell=("bad", "good"),
    )

    (card,) = of_flow.mistakes
    assert card.src.endswith(SAMPLES[2].digest)
    assert card.fix == ""  # the draft has it no more
    assert of_flow.chosen == (
        "1 of 2 mistakes, labelled bad, answered good; the worst 2 of all are kept"
    )
    cells = {cell.href: cell for row in of_flow.rows for cell in row.cells if cell.href}
    assert [cell.count for cell in cells.values()] == [1, 2]  # good answered bad is not listed
    assert [cell.is_chosen for cell in cells.values()] == [False, True]
    every = result_view("screws", measured(missed), samples=SAMPLES, drafted=SAMPLES)
    assert every.mistakes[0].fix.startswith("/datasets/screws/label?picture=sha256:")
    crack = replace(missed, truth="crack")  # of a mask the kind, which its table does not have
    kinds = result_view(
        "screws", measured(crack, of="bad"), samples=SAMPLES, drafted=(), cell=("bad", "good")
    )
    assert (len(kinds.mistakes), kinds.rows[1].cells[0].is_chosen) == (1, True)
    assert kinds.rows[1].cells[0].href
    boxes = replace(missed, truth="2 screw", said="bad")  # of objects: no row of the table
    shown = result_view("screws", measured(boxes, of="objects"), samples=SAMPLES, drafted=())
    assert not any(cell.href for row in shown.rows for cell in row.cells)
    twice = (*SAMPLES, replace(SAMPLES[0], name="c.png"))
    (card,) = result_view("screws", measured(missed), samples=twice, drafted=twice).mistakes
    assert (card.src, card.fix, card.alt) == ("", "", "Picture c.png")


@pytest.mark.parametrize(
    ("counts", "guess"),
    [
        ({"schlecht": 9, "gut": 3}, "gut"),
        ({"n.i.O.": 9, "i.O.": 3}, "i.O."),
        ({"not ok": 9, "OK_Teil": 3}, "OK_Teil"),
        ({"ko": 1, "bon": 1}, "bon"),
        ({"合格": 1, "不合格": 4}, "合格"),
        ({"1111": 9, "0000": 3}, "1111"),
    ],
)
def test_the_good_label_is_guessed_by_its_name_else_by_most_pictures(
    counts: dict[str, int], guess: str
) -> None:
    label, why = guess_good(counts)

    assert label == guess
    assert why == ("because most pictures show it" if guess == "1111" else "by its name")


def test_what_people_say_of_good_labels_outweighs_any_name() -> None:
    state = FlowState(name="screws", task=Task.CLASSIFY)

    assert good_labels(state, kinds=()).rule is None
    guessed = good_labels(state, kinds=("gut", "riss"))
    assert (guessed.guess, guessed.labels) == ("gut", (("gut", True), ("riss", False)))
    assert good_labels(state, kinds=("good", "bad")).guess == ""
    named = good_labels(replace(state, good=("riss",)), kinds=("gut", "riss"))
    assert (named.guess, named.rule) == ("", RejectRule(good=("riss",)))
    placed = replace(state, inspection=small_plant().inspection[0])
    assert good_labels(placed, kinds=("gut", "riss")).rule is None


def test_the_result_is_about_bad_and_good_parts_by_the_labels_that_people_named(
    client: TestClient,
    hub: Services,
    archive: bytes,
    line: Any,  # noqa: ANN401  the room's Line
    jpeg: Callable[..., bytes],
) -> None:
    address = "/api/v1/datasets/screws/labels"
    client.post(address, json={"labels": ["blue", "red", "white"], "task": "classify"})
    line.send(line.camera(jpeg("blue")))
    frame = hub.frames.page(camera="rack", limit=1)[0].id
    hub.datasets.teach("screws", Teaching(frames=(frame,), labels=("blue",)), by="ada")
    hub.datasets.freeze("screws", by="ada")
    table = Confusion(
        classes=("blue", "red", "white"), rows=((9, 1, 0, 0), (0, 8, 2, 0), (9, 0, 1, 0))
    )
    right = Metric(value=0.5, low=0.4, high=0.6, n=30, baseline=0.0)
    point = CurvePoint(share=1.0, pictures=24, right=right, labels={})
    curve = LearningCurve(points=(point,), gain=right, gains={"red": right}, heads="a head")
    blob = DefectPower(
        kind="blob", contrast=40.0, n=20, sizes_px=(4.0, 8.0), found=(3, 18),
        at_80=SmallestSize(size_px=8.0, low_px=4.0), at_95=SmallestSize(),
    )  # fmt: skip
    power = PowerTest(defects=(blob,), pictures=20, part_px=80.0)
    report = encode({
        "task": "classify", "confusion": {"screws": table}, "validation_pictures": 30,
        "learning_curve": curve, "power": power,
    })  # fmt: skip
    made = Package.read(archive)
    files = {name: each for name, each in made.files.items() if name != "manifest.json"}
    package = build_package(
        replace(made.manifest, inspection="screws"), files | {REPORT_FILE: report}
    )
    digest = hub.packages.add(package, by="ada").digest
    hub.runs._put(replace(run(), package=digest), pid=0)
    hub.models.register("screws", Registration(package=digest), by="ada")

    guessed = client.get("/inspections/new/screws?step=result").text
    client.post(address, json={"good": ["red"]})
    confirmed = client.get("/inspections/new/screws?step=result").text

    assert "<b>blue</b> is taken for the label of a good part, because most pictures" in guessed
    assert "Of 100 bad parts" in guessed
    assert "data-guess" not in confirmed
    assert "Of 100 bad parts about <b>5</b> slip through" in " ".join(confirmed.split())
    assert "Choose its camera first." in confirmed
    values = {"id": "screws", "camera": "rack", "task": "classify", "good": ["red"]}
    values |= {"labels": ["blue", "red", "white"]}
    change = {"section": "inspection", "values": values, "reason": "it looks at the rack"}
    assert client.post("/api/v1/plant", json=change).status_code == 200
    placed = client.get("/inspections/new/screws?step=result").text
    limits = f"/inspections/screws/operating-point?package={digest}"
    assert f'href="{limits}"' in placed
    assert client.get(limits).status_code == 200
    assert hub.labelling.own_labels("screws").good == ("red",)
    version = client.get("/models/groups/screws/1").text
    assert "bad parts about 5 slip" in version
    for page in (confirmed, version, client.get("/models/groups/screws/1/report").text):
        for part in (
            "Right answers to pictures that were held out",
            "40 to 60",
            "8 px (4 to more than drawn), 10.0 % of the part",
            "18 of 20",
        ):
            assert part in page


# ---- its place in the plant file


@pytest.fixture
def package(archive: bytes) -> Package:
    """One that judges the whole picture."""
    manifest = Package.read(archive).manifest
    box = Box(x0_px=0, y0_px=0, x1_px=9, y1_px=9)
    whole = replace(manifest.prepare, crops=(Crop(region="", box_px=box),))
    changed = replace(manifest, inspection="screws", task="classify", prepare=whole)
    return replace(Package.read(archive), manifest=changed)


def test_an_empty_plant_file_gets_line_camera_and_inspection_at_once(package: Package) -> None:
    placed = PackagePlacement(
        camera="top", source="folder:/pictures", line="Line 1", reason="first", good=("blue",)
    )
    empty = parse_plant(EMPTY.encode(), where="plant")

    text = EMPTY
    for edit in placement_edits(package.manifest, placed, plant=empty):
        text = edit_text(text, edit)

    plant = parse_plant(text.encode(), where="plant")
    assert [(one.id, one.name) for one in plant.line] == [("line-1", "Line 1")]
    assert plant.find_camera("top").line == "line-1"
    found = plant.find_inspection("screws")
    assert (found.camera, found.task) == ("top", Task.CLASSIFY)
    assert found.labels == package.manifest.labels
    assert found.good == ("blue",)
    moved = replace(placed, camera="gate", source="", line="")
    with pytest.raises(InvalidError, match="no camera 'gate'"):
        placement_edits(package.manifest, moved, plant=plant)
    assert placement_edits(package.manifest, replace(moved, camera="top"), plant=plant) == ()
    assert placement_edits(package.manifest, placed, plant=plant) == ()
    with pytest.raises(ConflictError, match="with another source"):
        placement_edits(package.manifest, replace(placed, source="folder:/other"), plant=plant)


def verdict_of(manifest: Manifest, *present: str, good: tuple[str, ...] = ()) -> PartVerdict:
    """The verdict on a part with these answers, by the inspection that the flow makes."""
    placement = PackagePlacement(camera="rack", reason="first", good=good)
    (edit,) = placement_edits(manifest, placement, plant=small_plant())
    inspection = decode(Inspection, edit.values, where="inspection")
    assert inspection.good == (good or manifest.good) or manifest.task == "multilabel"
    labels = tuple(
        LabelAnswer(
            name=one, region="", label=one, probability=0.9,
            decision=Decision.PRESENT if one in present else Decision.ABSENT,
        )
        for one in manifest.labels
    )  # fmt: skip
    answered = replace(prediction_of({}, at_s=0.0), task=str(manifest.task), labels=labels)
    return judge_prediction(answered, reject_rule(inspection)).verdict


def test_kinds_reject_only_what_nobody_called_good(package: Package) -> None:
    kinds = package.manifest

    assert verdict_of(kinds, "red", good=kinds.labels) is PartVerdict.OK
    assert verdict_of(replace(kinds, good=("red",)), "red") is PartVerdict.OK
    assert verdict_of(kinds, "red", good=("blue",)) is PartVerdict.REJECT
    assert verdict_of(kinds, "blue", good=("blue",)) is PartVerdict.OK
    with pytest.raises(InvalidError, match="every part would be rejected") as refused:
        verdict_of(kinds, "red")
    assert "blue, red, white" in refused.value.fix
    assert verdict_of(replace(kinds, labels=("bad", "good")), "good") is PartVerdict.OK
    with pytest.raises(InvalidError, match="good"):
        verdict_of(kinds, "red", good=("gold",))
    masks = replace(kinds, task="segment", labels=("kratzer",), good=("i.O.",))
    assert verdict_of(masks, "kratzer") is PartVerdict.REJECT


def test_a_thing_that_is_missing_rejects(package: Package) -> None:
    things = replace(package.manifest, task="multilabel")

    assert verdict_of(things, "blue", "red", "white") is PartVerdict.OK
    assert verdict_of(things, "blue", "red") is PartVerdict.REJECT
    assert verdict_of(things, "blue", good=("blue",)) is PartVerdict.OK


def test_a_package_of_regions_is_placed_by_the_set_up(archive: bytes, plant: Plant) -> None:
    manifest = replace(Package.read(archive).manifest, inspection="other")

    with pytest.raises(InvalidError, match="regions"):
        placement_edits(manifest, PackagePlacement(camera="rack", reason="x"), plant=plant)


def test_placing_a_package_by_the_api_is_a_version_of_the_plant_file(
    client: TestClient, hub: Services, archive: bytes
) -> None:
    digest = hub.packages.add(archive, by="ada").digest
    seen = hub.plants.newest().number
    body = {"camera": "gate", "reason": "moved", "base": seen}

    answer = client.post(f"/api/v1/packages/{digest}/inspection", json=body)

    assert answer.status_code == 200, answer.text
    assert answer.json()["reason"] == "moved"
    assert 'camera = "gate"' in hub.plants.text()
    assert isinstance(hub.plant.find_inspection("stock"), Inspection)
    stale = client.post(f"/api/v1/packages/{digest}/inspection", json={**body, "camera": "rack"})
    assert stale.status_code == 409
