"""The real clip: seven things pass the line, a seam of the belt passes too and is none."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lineside.core import Rule
from lineside.core.plant_rules import CrossingStep, RuleInput, Scalar
from lineside.streams.rules.contract import Output, Record
from lineside.streams.rules.steps import make_step
from lineside.vision.difference import foreground_boxes

pytestmark = pytest.mark.data
HZ, EVERY, TOLERANCE = 20, 2, 3
RULE = Rule(
    id="passed", read=RuleInput(predictions="parts", answers="each"),
    crossing=CrossingStep(x0_px=40, y0_px=240, x1_px=180, y1_px=240),
)  # fmt: skip


def boxes(clip: Path) -> Iterator[Record]:
    """What stands out in every second picture."""
    import cv2

    capture, number = cv2.VideoCapture(str(clip)), -1
    while True:
        good, picture = capture.read()
        number += 1
        if not good:
            capture.release()
            return
        if number % EVERY == 0:
            found = foreground_boxes(np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8))
            for place, one in enumerate(found):
                at_us = number * 1_000_000 // HZ
                middle: dict[str, Scalar] = {
                    "x_px": (one.x0_px + one.x1_px) / 2, "y_px": (one.y0_px + one.y1_px) / 2,
                    "label": one.label, "probability": one.probability,
                }  # fmt: skip
                yield Record(
                    id=f"evt_{number:03d}#{place}", source="c", at_us=at_us, arrived_us=at_us,
                    fields=middle,
                )  # fmt: skip


def test_the_clip_has_seven_crossings_at_the_frames_that_were_labelled(data_folder: Path) -> None:
    folder = data_folder / "conveyor-clip"
    with (folder / "crossings.csv").open(newline="") as file:
        true = list(csv.DictReader(file))
    step, found = make_step(RULE), list[Output]()
    for record in boxes(folder / "clip.avi"):
        found += step.feed(record, key=())
    found += step.advance(10**12)
    assert len(found) == len(true) == 7
    for one, told in zip(found, true, strict=True):
        assert one.values["direction"] == "to left"
        assert one.end_us * HZ / 1e6 >= int(told["enter_frame"]) - TOLERANCE
        assert one.start_us * HZ / 1e6 <= int(told["leave_frame"]) + TOLERANCE
