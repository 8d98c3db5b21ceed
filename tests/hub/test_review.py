"""The review queue: what is drawn, answers once, blind audits, two people, figures, the page."""

import itertools
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lineside.core import (
    ConflictError,
    Inspection,
    InvalidError,
    NotFoundError,
    Plant,
    UnavailableError,
    decode,
    digest_of,
    frame_id,
    parse_plant,
)
from lineside.core.plant import Task
from lineside.datasets.samples import shows_defect
from lineside.hub import Role, Services
from lineside.hub.ingest.answers import AnswerIndex, PredictionAnswer
from lineside.hub.pages.review import waiting_text
from lineside.hub.review import service as review
from lineside.hub.review.items import (
    REVIEW_TYPE,
    ReviewAnswer,
    ReviewItem,
    ReviewStatus,
    answered,
    choices_of,
    is_drawn,
    may_see,
    status_of,
    visible_answers,
    withdrawn,
)
from lineside.hub.review.service import MOST_COUNTED, NewReviewAnswer, Reviews
from lineside.links import Message
from lineside.store import FrameAnswer, FrameRow
from lineside.store.contract import every_document
from lineside.streams import PREDICTION_TYPE, decode_event, encode_event, prediction_event
from lineside.testing.bare import bare_frame
from lineside.testing.store import NOON
from lineside.vision import Decision, FrameRef, LabelAnswer, PictureState
from lineside.vision.verdict import PartVerdict
from tests.hub.conftest import PACKAGE, PLANT, Line, another_hub
from tests.hub.conftest import answered as prediction_of
from tests.hub.pages.test_pages import words

Pictures = Callable[..., bytes]
Take = Callable[..., None]
CLASSES = b"""[[inspection]]
id = "stock"
camera = "rack"
task = "classify"
labels = ["good", "bad"]
[[route]]
topic = "i/cam"
kind = "frame"
camera = "rack"
"""
DECLARED = b'id = "stock"\ncamera = "rack"\nexpected = ["blue"]\naudit = 1.0\n'


@pytest.fixture(scope="session")
def plant(request: pytest.FixtureRequest) -> Plant:
    """A part is good with blue and nothing else; every part that is judged is audited."""
    declared = PLANT.replace(b'id = "stock"\ncamera = "rack"\n', DECLARED)
    return parse_plant(getattr(request, "param", declared), where="plant")


@pytest.fixture
def take(hub: Services, line: Line, jpeg: Pictures) -> Take:
    """Send pictures by the verdict that the device gives on each, a second apart."""
    line.send(line.status())
    index = AnswerIndex(hub.records.frames, plant=hub.plant, also=hub.reviews.take)
    sent = 0

    def send(*verdicts: str) -> None:
        nonlocal sent
        for verdict in verdicts:
            sent += 1
            picture, at = jpeg(seed=sent), line.ago(100 - sent)
            line.send(line.camera(picture, at=at, part=f"part-{sent}"))
            line.send(prediction(verdict, picture=picture, at=at, number=sent))
        index.take(hub.records.log.read(type=PREDICTION_TYPE))

    return send


def prediction(verdict: str, *, picture: bytes, at: datetime, number: int) -> Message:
    digest = digest_of(picture)
    name = frame_id(camera="rack", captured_at=at, digest=digest)
    said = prediction_of(
        FrameRef(
            id=name, camera="rack", captured_at=at, digest=digest, part=f"part-{number}"
        ),
        ("blue",) if verdict == "ok" else (), package=PACKAGE,
    )  # fmt: skip
    if verdict == "review":
        first = replace(said.labels[0], probability=0.61, decision=Decision.UNSURE)
        said = replace(said, labels=(first, *said.labels[1:]))
    elif verdict == "class":
        said = replace(said, task="classify", labels=tuple(
            LabelAnswer(
                name=name, region="", label=name, probability=chance, decision=Decision.UNSURE
            )
            for name, chance in (("bad", 0.26), ("good", 0.74))
        ))  # fmt: skip
    elif verdict == "moved":
        said = replace(said, labels=(), state=PictureState.BLURRED)
    event = prediction_event(
        replace(said, device="edge-1"), site="hall", device="edge-1", sequence=number, first=1
    )
    topic = "lineside/hall/warehouse/rack/prediction"
    return Message(topic=topic, payload=encode_event(event), qos=1)


def queue(client: TestClient, **query: Any) -> list[dict[str, Any]]:  # noqa: ANN401  parameters
    items: list[dict[str, Any]] = client.get("/api/v1/review", params=query).json()["items"]
    return items


def post(client: TestClient, item: str, what: str, **body: Any) -> Any:  # noqa: ANN401  JSON
    return client.post(f"/api/v1/review/{item}/{what}", json=body)


def signed_in(hub: Services, client: TestClient, name: str, role: Role) -> TestClient:
    """The same hub asked by somebody else."""
    token = hub.auth.issue_token(name, kind="api", role=role)
    other = TestClient(client.app, base_url=str(client.base_url))
    other.headers["authorization"] = f"Bearer {token}"
    return other


def start_again(hub: Services, line: Line, jpeg: Pictures) -> Services:
    """Another hub over the same stores, after its first picture: ``part-9``, for review."""
    later, picture, at = another_hub(hub), jpeg(seed=9), line.ago(50)
    line.send(line.camera(picture, at=at, part="part-9"))
    line.send(prediction("review", picture=picture, at=at, number=9))
    index = AnswerIndex(later.records.frames, plant=hub.plant, also=later.reviews.take)
    index.take(hub.records.log.read(type=PREDICTION_TYPE))
    return later


# ---- decisions


@given(st.floats(0.0, 1.0), st.text(max_size=8), st.text(max_size=8))
def test_a_draw_depends_on_frame_inspection_and_key_alone(
    share: float, frame: str, key: str
) -> None:
    def drawn(part: float) -> bool:
        return is_drawn(part, key=key, inspection="a", frame=frame)

    assert drawn(share) == drawn(share)
    assert not drawn(share) or drawn(1.0)
    assert not drawn(0.0)


def test_the_share_is_drawn_and_another_key_draws_others() -> None:
    frames = [f"frm_{n}" for n in range(20_000)]
    one, other = (
        {f for f in frames if is_drawn(0.05, key=key, inspection="a", frame=f)} for key in "ab"
    )
    assert 850 < len(one) < 1150
    assert len(one & other) < 100


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"task": Task.CLASSIFY, "labels": ("dent", "good", "stain")}, "good dent! stain!"),
        ({"task": Task.SEGMENT, "labels": ("dent",)}, "ok dent!"),
        ({"task": Task.CLASSIFY, "labels": ("a", "b"), "reject": ("b",)}, "a b!"),
        ({"task": Task.CLASSIFY, "labels": ("a", "b"), "good": ("a", "b")}, "a b reject!"),
        ({"task": Task.MULTILABEL, "labels": ("blue",)}, "ok reject!"),
        ({"task": Task.COUNT}, "ok reject!"),
        ({"task": Task.ANOMALY}, "ok reject!"),
    ],
)
def test_answers_on_offer_are_labels_good_ones_first(
    declared: dict[str, Any], expected: str
) -> None:
    choices = choices_of(Inspection(id="stock", camera="rack", **declared))
    assert " ".join(f"{one.value}{'!' * (one.verdict == 'reject')}" for one in choices) == expected


PEOPLE = st.sampled_from(["ann", "bob", "cleo"])
STEPS = st.lists(
    st.tuples(PEOPLE, st.sampled_from(["ok", "reject", "undo"]), st.booleans()), max_size=12
)


@given(STEPS, st.sampled_from([1, 2]))
def test_any_steps_leave_an_item_that_follows_from_its_answers(
    steps: list[tuple[str, str, bool]], reviewers: int
) -> None:
    item = ReviewItem(
        id="rev", frame="frm", camera="rack", inspection="stock", part="", captured_at=NOON,
        package="", event="evt", verdict=PartVerdict.OK, label="", score=0.0, share=0.1,
    )  # fmt: skip
    for by, what, settles in steps:
        new = ReviewAnswer(by=by, at=NOON, answer=what, verdict=PartVerdict.OK, event="")
        before = item
        try:
            if what == "undo":
                item = withdrawn(item, by=by, reviewers=reviewers)
            else:
                item = answered(item, new, reviewers=reviewers, settles=settles)
                again = answered(item, new, reviewers=reviewers, settles=settles)
                assert again is item
        except (ConflictError, NotFoundError):
            assert item is before
        assert item.status == status_of(item.answers, reviewers=reviewers)
        assert len(item.answers) <= (3 if reviewers == 2 else 1)
        first_two = [one.by for one in item.answers[:2]]
        assert len(set(first_two)) == len(first_two)
        assert may_see(item) == (item.status is ReviewStatus.DONE)
        if item.status is ReviewStatus.OPEN:
            shown = visible_answers(item, by=by)
            assert {one.by for one in shown} <= {by}


# ---- the queue


def test_doubts_come_before_the_audit_greatest_first(client: TestClient, take: Take) -> None:
    take("ok", "moved", "review", "reject")
    found = queue(client)
    assert [one["audit"] for one in found] == [False, False, True, True]
    assert [one["finding"]["label"] for one in found[:2]] == ["blurred", "blue"]
    assert found[1]["finding"]["reasons"] == ["blue unsure 0.61"]
    assert found[1]["finding"]["part"] == "part-3"
    first = client.get("/api/v1/review", params={"limit": 3}).json()
    assert [*first["items"], *queue(client, after=first["next"])] == found
    assert queue(client, after="frm_none") == found
    settled = found[1]["id"]
    post(client, settled, "answer", answer="ok")
    assert queue(client, after=settled) == found[2:]
    post(client, settled, "undo")
    assert queue(client, line="warehouse", inspection="stock") == found
    refused = client.get("/api/v1/review", params={"line": "none"})
    assert (refused.status_code, refused.json()["fix"]) == (400, "Lines: warehouse.")
    assert client.get("/api/v1/review/rev_none").status_code == 404


NEW = st.tuples(st.sampled_from(["review", "ok"]), st.sampled_from([0.0, 0.5, 0.78, 1.0]))
ANSWER = st.tuples(PEOPLE, st.sampled_from(["ok", "reject"]), st.integers(0, 9))
UNDO = st.tuples(PEOPLE, st.just("undo"), st.integers(0, 9))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(NEW, min_size=1, max_size=8), st.lists(ANSWER | UNDO, max_size=8),
    st.lists(NEW | ANSWER, max_size=4), st.sampled_from([1, 2]),
)  # fmt: skip
@example([("review", 0.0)] * 5, [("bob", "reject", 0)], [("ann", "ok", 0)], 2)
def test_whoever_pages_sees_all_that_waits_throughout_by_doubt_and_the_audit_by_time(
    hub: Services, queued: list[Any], done: list[Any], meanwhile: list[Any], reviewers: int
) -> None:
    name = f"stock-{next(COUNT)}"
    kept: dict[str, FrameAnswer] = {}
    declared = replace(hub.plant.inspection[0], id=name, reviewers=reviewers)
    hub.plant.become(replace(hub.plant, inspection=(declared,)))

    def step(of: str, what: Any, number: int = -1) -> None:  # noqa: ANN401  a drawn step
        if number < 0:
            one = new_answer(hub, of, doubt=what, number=len(kept), inspection=name)
            hub.reviews.take([one])
            kept[one.event] = one.answer
        elif number < len(kept):
            item = sorted(every_item(hub, name), key=lambda one: one.event)[number].id
            with suppress(ConflictError, NotFoundError):
                if what == "undo":
                    hub.reviews.undo(item, by=of)
                else:
                    hub.reviews.answer(item, NewReviewAnswer(answer=what), by=of)

    for one in (*queued, *done):
        step(*one)
    before, after, seen, left = waiting_for_ann(hub, kept, name), "", [], list(meanwhile)
    assert [one.id for one in hub.reviews.page(by="ann", limit=100).items] == before
    while page := hub.reviews.page(by="ann", after=after, limit=2):
        seen += [one.id for one in page.items]
        after = page.following
        if not after:
            break
        if left:
            step(*left.pop())
    assert set(before) & set(waiting_for_ann(hub, kept, name)) <= set(seen)
    assert reviewers > 1 or len(seen) == len(set(seen))


COUNT = itertools.count()


def new_answer(
    hub: Services, verdict: str, *, doubt: float, number: int, inspection: str
) -> PredictionAnswer:
    """A prediction of that verdict and doubt, whose picture is kept."""
    at = NOON + timedelta(seconds=number)
    digest = digest_of(f"{inspection} {number}".encode())
    ref = bare_frame(at=at, digest=digest)
    row = FrameRow(
        id=ref.id, camera="rack", captured_at=at, arrived_at=at, digest=digest, size_bytes=1,
        width_px=160, height_px=120, thumbnail=digest,
    )  # fmt: skip
    hub.records.frames.add([row])
    said = replace(prediction_of(ref, ("blue",), package=PACKAGE), inspection=inspection)
    answer = FrameAnswer(
        frame=ref.id, camera="rack", captured_at=at, inspection=inspection, package=PACKAGE,
        verdict=PartVerdict(verdict), doubt=doubt,
    )  # fmt: skip
    return PredictionAnswer(f"evt_{number}", said, answer)


def waiting_for_ann(
    hub: Services, answers: Mapping[str, FrameAnswer], inspection: str
) -> list[str]:
    """What waits, in order, as it follows from the items alone."""

    def order(item: ReviewItem) -> tuple[Any, ...]:
        answer = answers[item.event]
        apart, audit = item.status is ReviewStatus.DISAGREEMENT, answer.verdict == "ok"
        doubt = 0.0 if apart or audit else -answer.doubt
        return not apart, audit, doubt, -answer.captured_at.timestamp()

    return [
        one.id for one in sorted(every_item(hub, inspection), key=order)
        if one.status is ReviewStatus.DISAGREEMENT
        or (one.status is ReviewStatus.OPEN and "ann" not in {by.by for by in one.answers})
    ]  # fmt: skip


def every_item(hub: Services, inspection: str) -> list[ReviewItem]:
    """All items of an inspection, as they are kept."""
    every = (one.body for one in every_document(hub.records.documents, "review"))
    return [decode(ReviewItem, one, where="") for one in every if one["inspection"] == inspection]


def without_doubts(hub: Services) -> None:
    """Bring the queue to the form of schema 1."""
    documents = hub.records.documents
    for kind in ("review", "review-waiting/stock"):
        for one in list(every_document(documents, kind)):
            documents.delete(kind, one.id)
            if kind == "review":
                body = {name: value for name, value in one.body.items() if name != "doubt"}
                documents.put(kind, one.id, body=body | {"schema": "lineside.review/1"})
            else:
                rank, *_, at, item = one.id.split("-")
                documents.put(kind, f"{rank}-{at}-{item}", body=one.body)


def test_doubts_are_found_a_few_at_a_time_also_where_an_answer_cannot_be_read(
    hub: Services, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    take("moved", "review", "review")
    without_doubts(hub)
    unread = next(one for one in every_item(hub, "stock") if one.part == "part-2").event
    got = hub.records.log.get

    def refused(raw: bytes, *, where: str) -> Any:  # noqa: ANN401  an event
        if raw == got(unread).entry.body:
            raise InvalidError("no event of today's schema", where=where)
        return decode_event(raw, where=where)

    monkeypatch.setattr(review, "decode_event", refused)
    monkeypatch.setattr(review, "_MOST_UPGRADED", 2)
    later = another_hub(hub).reviews
    steps = []
    for number in (8, 9, 10):
        later.take([new_answer(hub, "review", doubt=0.5, number=number, inspection="stock")])
        doubts = {one.part: one.doubt for one in every_item(hub, "stock") if one.part}
        steps.append([doubts[f"part-{n}"] for n in (3, 2, 1)])
    assert steps == [[0.89, 0.0, None], [0.89, 0.0, 1.0], [0.89, 0.0, 1.0]]


def test_what_the_version_before_doubts_kept_is_shown_settled_and_sorted_in(
    client: TestClient, hub: Services, take: Take, line: Line, jpeg: Pictures
) -> None:
    take("moved", "review", "review", "ok")
    without_doubts(hub)
    old = queue(client)
    parts = [one["finding"]["part"] for one in old[:3]]
    assert (parts, old[3]["audit"]) == (["part-3", "part-2", "part-1"], True)
    assert queue(client, after=old[0]["cursor"]) == old[1:]
    assert post(client, old[0]["id"], "answer", answer="ok").status_code == 200
    assert queue(client) == old[1:]
    post(client, old[0]["id"], "undo")
    assert queue(client) == old
    post(client, old[1]["id"], "answer", answer="ok")
    start_again(hub, line, jpeg)
    found = [one["finding"]["part"] for one in queue(client) if not one["audit"]]
    assert found == ["part-1", "part-9", "part-3"]


def test_an_audited_picture_tells_nothing_before_it_is_answered(
    client: TestClient, browser: TestClient, hub: Services, take: Take
) -> None:
    take("ok", "reject")
    bad, good = queue(client)
    assert bad["cursor"] == bad["id"]  # it says nothing of frame or time
    assert {**bad, "id": "", "cursor": ""} == {**good, "id": "", "cursor": ""}
    assert (bad["finding"], bad["answers"]) == (None, [])
    rows = [row.id for row in hub.frames.page()]
    for one in (bad, good):
        told = client.get("/api/v1/review").text + client.get(f"/api/v1/review/{one['id']}").text
        page = browser.get("/review", params={"item": one["id"]}).text
        page = page[page.index("<main") :]  # the navigation names rejected messages
        for secret in (*rows, "part-1", "part-2", "0.97", "evt_", PACKAGE, "blue", "rejected"):
            assert secret not in told
            assert secret not in page
        assert client.get(f"/api/v1/review/{one['id']}/thumbnail").status_code == 200
        picture = client.get(f"/api/v1/review/{one['id']}/picture")
        assert picture.headers["content-type"] == "image/jpeg"
        assert "content-disposition" not in picture.headers
    pages = [browser.get("/review", params={"item": one["id"]}).text for one in (bad, good)]
    cut = [page[page.index('class="rev-rail') :] for page in pages]
    for one in (bad, good):
        cut = [text.replace(one["id"], "") for text in cut]
    assert words(cut[0]) == words(cut[1])
    told = post(client, bad["id"], "answer", answer="ok").json()
    assert (told["finding"]["verdict"], told["finding"]["part"]) == ("reject", "part-2")


def test_an_answer_counts_once_and_stands_in_the_log(
    client: TestClient, browser: TestClient, hub: Services, take: Take
) -> None:
    take("review", "reject")
    doubt, audit = queue(client)
    for _ in range(2):
        done = post(client, doubt["id"], "answer", answer="reject")
        assert (done.status_code, done.json()["status"]) == (200, "done")
    assert post(client, audit["id"], "answer", answer="ok").status_code == 200
    events = client.get("/api/v1/events", params={"type": REVIEW_TYPE}).json()["items"]
    said = [one["data"] for one in events]
    assert [(one["answer"], one["audit"], one["verdict"]) for one in said] == [
        ("reject", 0.0, "review"), ("ok", 1.0, "reject"),
    ]  # fmt: skip
    assert {one["action"] for one in said} == {"answered"}
    assert said[0]["frame"] == doubt["finding"]["frame"]
    assert said[0]["prediction"] == doubt["finding"]["event"]
    view = client.get(f"/api/v1/frames/{said[0]['frame']}").json()
    assert REVIEW_TYPE in {one["type"] for one in view["events"]}
    assert "answered, reject" in words(browser.get(f"/events?type={REVIEW_TYPE}").text)
    other = post(client, doubt["id"], "answer", answer="ok")
    assert (other.status_code, "answered by" in other.json()["detail"]) == (409, True)
    unknown = post(client, audit["id"], "answer", answer="blue")
    assert (unknown.status_code, unknown.json()["fix"]) == (400, "Known: ok, reject.")
    assert (queue(client), hub.reviews.count()) == ([], 0)


def test_an_answer_that_was_taken_back_waits_again_in_its_place(
    client: TestClient, hub: Services, take: Take
) -> None:
    take("review", "review")
    before = queue(client)
    item = before[0]["id"]
    assert post(client, item, "undo").status_code == 404
    post(client, item, "answer", answer="reject")
    assert post(client, item, "undo").json()["status"] == "open"
    assert queue(client) == before
    assert post(client, item, "answer", answer="ok").json()["answers"][0]["answer"] == "ok"
    kinds = [one.entry.id for one in hub.records.log.read(type=REVIEW_TYPE)]
    assert len(kinds) == len(set(kinds)) == 3


def test_what_came_before_is_kept_over_a_restart_and_comes_once(
    client: TestClient, hub: Services, take: Take
) -> None:
    take("review", "ok")
    done = queue(client)[0]["id"]
    post(client, done, "answer", answer="ok")
    left = queue(client)
    later = another_hub(hub)
    log = hub.records.log.read(type=PREDICTION_TYPE)
    for one in (hub, later):
        index = AnswerIndex(one.records.frames, plant=hub.plant, also=one.reviews.take)
        index.take(log)
    assert queue(client) == left
    assert later.reviews.one(done, by="x").status == "done"
    assert [one.id for one in later.reviews.page(by="x").items] == [one["id"] for one in left]


def test_the_oldest_of_too_many_are_dropped(
    hub: Services, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "MOST_WAITING", 2)
    monkeypatch.setattr(review, "_TIDY_EVERY", 4)
    take("moved", "review", "review", "review")  # the oldest has the greatest doubt
    found = hub.reviews.page(by="x").items
    assert [one.finding.part for one in found if one.finding] == ["part-4", "part-3"]


def test_the_queue_is_trimmed_by_the_first_picture_after_a_start(
    hub: Services, take: Take, line: Line, jpeg: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    take("review", "review", "review")
    monkeypatch.setattr(review, "MOST_WAITING", 2)
    later = start_again(hub, line, jpeg)
    found = later.reviews.page(by="x").items
    assert [one.finding.part for one in found if one.finding] == ["part-9", "part-3"]


def test_what_is_answered_while_the_queue_is_trimmed_stays(
    hub: Services, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    take("review")
    (oldest,) = (one.id for one in hub.reviews.page(by="x").items)
    read = every_document

    def answered_between(*args: Any, **named: Any) -> Any:  # noqa: ANN401  as it is
        places = list(read(*args, **named))
        hub.reviews.answer(oldest, NewReviewAnswer(answer="ok"), by="ann")
        return places

    monkeypatch.setattr(review, "MOST_WAITING", 1)
    monkeypatch.setattr(review, "_TIDY_EVERY", 1)
    monkeypatch.setattr(review, "every_document", answered_between)
    take("review")
    assert [one.by for one in hub.reviews.one(oldest, by="x").answers] == ["ann"]


def test_what_aged_out_leaves_the_queue_and_what_was_answered_stays(
    client: TestClient, hub: Services, take: Take
) -> None:
    take("review", "review", "ok")
    kept = queue(client)[0]["id"]
    post(client, kept, "answer", answer="ok")
    hub.records.frames.age_out(older_than=hub.clock.now())
    assert (queue(client), hub.reviews.count()) == ([], 0)
    assert client.get(f"/api/v1/review/{kept}/picture").status_code == 200


def test_an_answer_goes_to_a_dataset_and_comes_back_with_it(
    client: TestClient, hub: Services, take: Take
) -> None:
    take("review")
    item = queue(client)[0]["id"]
    assert post(client, item, "answer", answer="ok", dataset="../x").status_code == 400
    assert post(client, item, "answer", answer="ok", dataset="doubts").status_code == 200
    assert hub.datasets.one("doubts").draft_samples == 1
    post(client, item, "undo")
    assert hub.datasets.one("doubts").draft_samples == 0


def test_a_part_without_the_defect_of_a_mask_is_labelled_in_the_dataset(
    client: TestClient, hub: Services, take: Take
) -> None:
    take("review")
    item = queue(client)[0]["id"]
    masked = Inspection(id="stock", camera="rack", task=Task.SEGMENT, labels=("dent",))
    hub.plant.become(replace(hub.plant, inspection=(masked,)))
    assert post(client, item, "answer", answer="ok", dataset="dents").status_code == 200
    (sample,) = hub.datasets.draft("dents").samples
    assert (sample.labels, sample.known) == ((), ("dent",))
    assert shows_defect(sample) is False
    post(client, item, "undo")
    assert hub.datasets.one("dents").draft_samples == 0


def killed(*_: object, **__: object) -> None:
    raise UnavailableError("the store is away")


def test_an_undo_that_is_cut_short_is_done_by_the_next_one(
    client: TestClient, hub: Services, take: Take, monkeypatch: pytest.MonkeyPatch
) -> None:
    take("review")
    item = queue(client)[0]["id"]
    post(client, item, "answer", answer="ok", dataset="doubts")
    for owner, name in ((hub.datasets, "withdraw"), (hub.ledger, "record")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, killed)
            assert post(client, item, "undo").status_code == 503
    assert post(client, item, "undo").json()["status"] == "open"
    assert hub.datasets.one("doubts").draft_samples == 0


# ---- two people


@pytest.fixture
def paired(hub: Services) -> Reviews:
    """The queue where two people answer each picture."""
    inspection = replace(hub.plant.inspection[0], reviewers=2)
    hub.plant.become(replace(hub.plant, inspection=(inspection,)))
    return hub.reviews


def test_two_people_answer_without_seeing_each_other(paired: Reviews, take: Take) -> None:
    take("review", "reject")
    doubt, audit = (one.id for one in paired.page(by="ann").items)
    no, yes = NewReviewAnswer(answer="reject"), NewReviewAnswer(answer="ok")
    assert [one.by for one in paired.answer(doubt, no, by="ann").answers] == ["ann"]
    assert [one.id for one in paired.page(by="ann").items] == [audit]
    seen = paired.one(doubt, by="bob")
    assert (seen.status, seen.answers) == ("open", ())
    with pytest.raises(ConflictError, match="you answered 'reject' before"):
        paired.answer(doubt, yes, by="ann")
    assert paired.answer(doubt, no, by="bob").status == "done"
    paired.answer(audit, no, by="ann")
    apart = paired.answer(audit, yes, by="bob")
    assert (apart.status, apart.finding) == ("disagreement", None)
    assert [one.answer for one in apart.answers] == ["reject", "ok"]
    assert [one.id for one in paired.page(by="ann").items] == [audit]
    with pytest.raises(ConflictError, match="two people"):
        paired.answer(audit, yes, by="cleo")
    assert paired.answer(audit, yes, by="bob").status == "disagreement"
    with pytest.raises(ConflictError, match="bob answered behind it"):
        paired.undo(audit, by="ann")
    settling = NewReviewAnswer(answer="reject", settles=True)
    for _ in range(2):
        settled = paired.answer(audit, settling, by="ann")
        assert (settled.status, len(settled.answers)) == ("done", 3)
    (quality,) = paired.quality()
    assert quality.agreement is not None
    assert (quality.agreement.share.value, quality.agreement.share.n) == (0.5, 2)
    assert (quality.rejected.bad, quality.rejected.good) == (1, 0)


def test_events_tell_answers_and_frame_once_nobody_is_led_by_them(
    hub: Services, paired: Reviews, take: Take
) -> None:
    take("review", "reject")
    doubt, audit = (one.id for one in paired.page(by="ann").items)
    no, yes = NewReviewAnswer(answer="reject"), NewReviewAnswer(answer="ok")
    paired.answer(doubt, no, by="ann")
    paired.undo(doubt, by="ann")
    paired.answer(doubt, no, by="ann")
    paired.answer(doubt, no, by="bob")
    paired.answer(audit, no, by="ann")
    paired.answer(audit, yes, by="bob")
    paired.answer(audit, NewReviewAnswer(answer="reject", settles=True), by="cleo")
    paired.undo(audit, by="cleo")
    bodies = [one.entry.body for one in hub.records.log.read(type=REVIEW_TYPE)]
    said = [json.loads(body)["data"] for body in bodies]
    assert [(one["by"], one["status"], one.get("answer")) for one in said] == [
        ("ann", "open", None), ("ann", "open", None), ("ann", "open", None),
        ("bob", "done", "reject"), ("ann", "open", None), ("bob", "disagreement", None),
        ("cleo", "done", "reject"), ("cleo", "disagreement", "reject"),
    ]  # fmt: skip
    hidden = {"schema", "action", "by", "item", "camera", "inspection", "status"}
    assert [set(one) == hidden for one in said] == [True] * 3 + [False, True, True] + [False] * 2
    (row,) = (row.id for row in hub.frames.page() if row.part == "part-2")
    assert (said[6]["frame"], said[6]["verdict"], said[6]["audit"]) == (row, "reject", 1.0)
    assert [(one["by"], one["answer"]) for one in said[6]["answers"]] == [
        ("ann", "reject"), ("bob", "ok"), ("cleo", "reject"),
    ]  # fmt: skip


def test_open_disagreements_count_in_the_agreement_and_in_no_rate(
    browser: TestClient, paired: Reviews, take: Take
) -> None:
    take("review", "review", "reject")
    for one in paired.page(by="x").items:
        for by, answer in (("ann", "ok"), ("bob", "reject" if one.audit else "ok")):
            paired.answer(one.id, NewReviewAnswer(answer=answer), by=by)
    (quality,) = paired.quality()
    assert quality.agreement is not None
    assert (quality.agreement.share.value, quality.agreement.share.n) == (2 / 3, 3)
    assert (quality.waiting, quality.disagreements, quality.rejected.judged) == (1, 1, 0)
    text = words(browser.get("/review").text)
    assert "1 open disagreement on audited pictures, not in the rates." in text
    assert "Two people agree on 66.7 %" in text


def test_of_two_people_at_once_at_two_hubs_one_is_counted(hub: Services, take: Take) -> None:
    take("review")
    item = hub.reviews.page(by="x").items[0].id
    hubs = {"ann": hub, "bob": another_hub(hub)}
    ready = Barrier(2)

    def ask(by: str) -> str:
        ready.wait()
        try:
            hubs[by].reviews.answer(item, NewReviewAnswer(answer="ok"), by=by)
        except ConflictError:
            return ""
        return by

    with ThreadPoolExecutor(2) as pool:
        counted = list(filter(None, pool.map(ask, hubs)))
    kept = [one.entry.body for one in hub.records.log.read(type=REVIEW_TYPE)]
    assert (len(counted), len(kept)) == (1, 1)
    assert [one.by for one in hub.reviews.one(item, by="x").answers] == counted


# ---- figures


def test_quality_counts_audited_pictures_of_both_verdicts(client: TestClient, take: Take) -> None:
    take("ok", "ok", "ok", "reject", "reject", "review", "ok")
    wanted = iter(["ok", "reject", "ok", "reject"])
    for one in queue(client)[2:6]:
        post(client, one["id"], "answer", answer=next(wanted))
    (found,) = client.get("/api/v1/review/quality").json()["items"]
    assert found["rejected"] == found["passed"] == {"good": 1, "bad": 1, "parts": 2.0}
    assert found["waiting"] == 2
    figures = found["figures"]
    assert (figures["escape"]["value"], figures["escape"]["n"]) == (0.5, 2)
    assert (figures["false_reject"]["value"], figures["false_reject"]["n"]) == (0.5, 2)
    assert (figures["missed"]["value"], figures["over_reject"]["value"]) == (0.5, 0.5)
    old = client.get("/api/v1/review/quality", params={"until": "2020-01-01T00:00:00Z"}).json()
    assert old["items"][0]["figures"]["escape"] is None
    for span in (
        {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"until": "0001-01-01T00:00:00Z"}, {"since": "9999-12-31T00:00:00Z"},
    ):  # fmt: skip
        refused = client.get("/api/v1/review/quality", params=span)
        assert (refused.status_code, bool(refused.json()["fix"])) == (400, True), span


# ---- people and the page


def test_who_may_label_may_answer(client: TestClient, hub: Services, take: Take) -> None:
    take("review")
    item = queue(client)[0]["id"]
    viewer = signed_in(hub, client, "guest", Role.VIEWER)
    assert len(queue(viewer)) == 1
    assert post(viewer, item, "answer", answer="ok").status_code == 403
    page = viewer.get("/review").text
    assert "Requires the role operator or engineer or approver or admin." in words(page)
    assert "data-answer" not in page
    operator = signed_in(hub, client, "ann", Role.OPERATOR)
    assert post(operator, item, "answer", answer="ok").json()["answers"][0]["by"] == "ann"


def test_the_page_shows_one_picture_its_answers_and_the_next_ones(
    browser: TestClient, client: TestClient, take: Take
) -> None:
    empty = browser.get("/review").text
    assert "Nothing waits for review" in empty
    assert "nav-count" not in empty
    take("ok", "review", "reject")
    doubt, bad, good = queue(client)
    page = browser.get("/review").text
    assert f'src="/api/v1/review/{doubt["id"]}/picture"' in page
    assert f'data-preload="/api/v1/review/{bad["id"]}/picture"' in page
    text = words(page)
    for part in ("blue?", "Why it is here blue unsure 0.61", "The audit has no answers yet"):
        assert part in text
    assert "3 pictures wait" in words(browser.get("/review?inspection=stock").text)
    assert [waiting_text(n) for n in (0, 1)] == ["", "1 picture waits"]
    assert waiting_text(MOST_COUNTED) == "99+ pictures wait"
    behind = browser.get("/review", params={"after": doubt["cursor"]}).text
    assert f'data-item="{bad["id"]}"' in behind
    end = browser.get("/review", params={"after": good["cursor"]}).text
    assert "Pictures that you skipped still wait" in end
    post(client, bad["id"], "answer", answer="ok")
    text = words(browser.get("/review").text)
    assert "100.0 % of rejects are good" in text
    assert "From 0 passed and 1 rejected picture audited, last 7 days" in text


@pytest.mark.parametrize("plant", [PLANT.partition(b"[[inspection]]")[0] + CLASSES], indirect=True)
def test_of_a_class_in_doubt_the_likeliest_is_suggested(browser: TestClient, take: Take) -> None:
    take("class")
    text = words(browser.get("/review").text)
    assert "good or bad? Model: good 0.74, bad 0.26" in text
    assert ("1 good suggested" in text, "bad suggested" in text) == (True, False)


def test_commands_answer_an_image_and_take_the_answer_back(
    take: Take, lineside: Callable[..., Any]
) -> None:
    take("review")
    (item,) = lineside("review", "list", "--line", "warehouse")["images"]
    assert "ok, reject" in lineside("review", "list", text=True)
    answered = lineside("review", "answer", item["id"], "ok", role=Role.OPERATOR)
    assert (answered["status"], answered["answers"][0]["by"]) == ("done", "some operator")
    assert lineside("review", "list", text=True) == "No image waits."
    assert lineside("review", "answer", item["id"], "reject", role=Role.OPERATOR)[0] == 4
    undone = lineside("review", "undo", item["id"], role=Role.OPERATOR, text=True)
    assert undone == f"{item['id']}: open"
    assert lineside("review", "list")["images"][0]["answers"] == []
    assert lineside("review", "answer", item["id"], "purple")[0] == 2
