"""The review queue in a browser: an answer by one key, blind audits, undo, skip, two people."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import expect

from lineside.hub.ingest.answers import PredictionAnswer, answer_of
from lineside.hub.review.items import ReviewStatus
from lineside.hub.review.service import NewReviewAnswer, Reviews
from lineside.streams import PREDICTION_TYPE, decode_event, read_prediction
from lineside.vision import Decision
from lineside.vision.verdict import PartVerdict
from tests.browser.test_pages import assess, settle, take_shot

pytestmark = pytest.mark.browser


def fill(hub: Any) -> Reviews:  # noqa: ANN401  Services
    """Two pictures in doubt and three for the audit, of what the line's device judged."""
    inspection = replace(hub.plant.inspection[0], audit=1.0, reviewers=2, expected=())
    queue = Reviews(
        hub.records, ledger=hub.ledger, frames=hub.frames, datasets=hub.datasets,
        plant=replace(hub.plant, inspection=(inspection,)), clock=hub.clock,
    )  # fmt: skip
    judged = []
    for place, logged in enumerate(hub.records.log.read(type=PREDICTION_TYPE, limit=5)):
        event = decode_event(logged.entry.body, where="log")
        prediction = read_prediction(event)
        if place < 2:
            first = replace(prediction.labels[0], decision=Decision.UNSURE, probability=0.55)
            prediction = replace(prediction, labels=(first, *prediction.labels[1:]))
        answer = answer_of(prediction, inspection)
        if place < 2:
            answer = replace(answer, verdict=PartVerdict.REVIEW)
        judged.append(PredictionAnswer(event.id, prediction, answer))
    queue.take(judged)
    return queue


def test_doubts_are_answered_by_a_key_and_audits_are_blind(
    line: Any,  # noqa: ANN401  conftest's Line
    open_page: Callable[..., Any],
    pytestconfig: pytest.Config,
) -> None:
    queue = fill(line.hub.services)
    first, second, audit = (one.id for one in queue.page(by="?").items[:3])
    page = open_page("/review").page
    settle(page)
    current = page.locator("[data-review]")
    expect(current).to_have_attribute("data-item", first)
    expect(page.get_by_text("Why it is here")).to_be_visible()
    take_shot(page, "review", folder=pytestconfig.getoption("--screenshots"))
    assert assess(page) == []
    picture = page.locator(".rev-picture")
    page.keyboard.press("+")
    expect(picture).to_have_attribute("data-zoomed", "")
    wide = picture.locator("img").evaluate("(one) => one.getBoundingClientRect().width")
    assert wide == pytest.approx(1.5 * picture.evaluate("(one) => one.clientWidth"), abs=1)
    page.get_by_role("button", name="Whole").click()
    expect(picture).not_to_have_attribute("data-zoomed", "")
    page.evaluate("() => sessionStorage.setItem('review-dataset', '../not on offer')")
    page.keyboard.down("2")
    expect(current).to_have_attribute("data-item", second)
    assert queue.one(first, by="?").status is ReviewStatus.DONE
    page.keyboard.down("2")  # still held: nobody looked at the second one
    page.keyboard.up("2")
    page.keyboard.press("u")
    expect(current).to_have_attribute("data-item", first)
    assert queue.one(second, by="?").status is ReviewStatus.OPEN
    assert queue.one(first, by="?").status is ReviewStatus.OPEN
    page.keyboard.press("1")
    expect(current).to_have_attribute("data-item", second)
    page.keyboard.press("Space")
    expect(current).to_have_attribute("data-item", audit)
    expect(page.get_by_text("hidden until you have answered")).to_be_visible()
    expect(page.locator("[data-overlay], [data-heat], .rev-main canvas")).to_have_count(0)
    assert assess(page) == []
    width_px = queue.one(audit, by="?").width_px
    expect(picture.locator("img")).to_have_js_property("naturalWidth", width_px)
    queue.answer(second, NewReviewAnswer(answer="ok"), by="ann")
    queue.answer(second, NewReviewAnswer(answer="reject"), by="bob")
    page.goto(page.url.partition("?")[0])
    expect(current).to_have_attribute("data-item", second)
    expect(page.get_by_text("Two people answered differently")).to_be_visible()
    page.keyboard.press("2")
    expect(current).to_have_attribute("data-item", audit)
    assert queue.one(second, by="?").status is ReviewStatus.DONE
    page.close()
