"""Faults of a camera by its pictures: dark, overexposed, blurred, frozen, moved. Pure.

1. The hub's own figures come of the small picture that is made of every frame, held against the
   limits of the plant file: no picture is decoded for them.
2. Each inspection's answers say by the limits of its package why a picture was not judged.
3. A fault counts when ``RUN`` pictures in a row have it, so that one dark frame is none; it is over
   with the first picture without it.
4. Answers that are older than what the camera shows now say nothing of it.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime

from lineside.core.plant import Camera
from lineside.models.manifest import HealthLimits
from lineside.models.predictor import (
    Repeats,
    Verdict,
    judge_picture,
    judge_repeats,
    repeated,
)
from lineside.vision import FrameRef, HealthFigures, PictureState, Prediction

RUN = 3
FAULTS: dict[PictureState, str] = {
    PictureState.CAMERA_MOVED: "moved",
    PictureState.BLACK: "dark",
    PictureState.OVEREXPOSED: "overexposed",
    PictureState.BLURRED: "blurred",
    PictureState.FROZEN: "frozen",
}
"""State of a picture that is the camera's fault, and the camera's state then."""
_BRIGHTEST, _NO_LIMIT = 255.0, float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFault:
    """A fault that pictures in a row have; ``since``: capture time of the first of them.

    Attributes:
        state: ``moved``, ``dark``, ``overexposed``, ``blurred`` or ``frozen``.
        frame: the first of them.
        newest: capture time of the newest of them.
    """

    state: str
    reason: str
    since: datetime
    frame: str
    newest: datetime
    pictures: int = 1


@dataclass(slots=True)
class CameraWatch:
    """Watches the pictures of one camera, and the answers to them by inspection."""

    repeats: Repeats | None = None
    by_picture: CameraFault | None = None
    by_answer: dict[str, CameraFault | None] = field(default_factory=dict)

    def take_frame(self, frame: FrameRef, *, health: HealthFigures | None, camera: Camera) -> None:
        """Take a frame; ``health``: of its small picture, None where that is made later."""
        self.repeats = repeated(self.repeats, frame)
        verdict = judge_repeats(_limits_of(camera), repeats=self.repeats.count)
        if verdict.state is not PictureState.OK:
            self.by_picture = _next_fault(self.by_picture, verdict, frame)
        elif health is not None:
            self.take_health(frame, health=health, camera=camera)

    def take_health(self, frame: FrameRef, *, health: HealthFigures, camera: Camera) -> None:
        """Take the figures of a frame's small picture."""
        verdict = judge_picture(health, _limits_of(camera))
        self.by_picture = _next_fault(self.by_picture, verdict, frame)

    def take_answer(self, prediction: Prediction) -> None:
        """Take an answer to a frame."""
        verdict = Verdict(state=prediction.state, reason=prediction.reason)
        before = self.by_answer.get(prediction.inspection)
        self.by_answer[prediction.inspection] = _next_fault(before, verdict, prediction.frame)

    def fault(self, *, since: datetime) -> CameraFault | None:
        """Return what is wrong with the pictures since a capture time; None where nothing is.

        An inspection's answer comes first, since its limits were learned from its own pictures.
        """
        answers = (one for one in self.by_answer.values() if one and one.newest >= since)
        for found in (*answers, self.by_picture):
            if found is not None and found.pictures >= RUN:
                return found
        return None


def _limits_of(camera: Camera) -> HealthLimits:
    return HealthLimits(
        sharpness_min=camera.blurred_below, mean_grey_min=camera.dark_below,
        mean_grey_max=_BRIGHTEST, clipped_share_max=1.0, residual_max_px=_NO_LIMIT,
        feature_distance_max=_NO_LIMIT, frozen_after=camera.frozen_after,
    )  # fmt: skip


def _next_fault(
    before: CameraFault | None, verdict: Verdict, frame: FrameRef
) -> CameraFault | None:
    """Return the fault after one more picture; one that came late changes nothing."""
    at, state = frame.captured_at, FAULTS.get(verdict.state)
    if before is not None and at <= before.newest:
        return before
    if state is None:
        return None
    if before is not None and before.state == state:
        return replace(before, newest=at, reason=verdict.reason, pictures=before.pictures + 1)
    # Frozen pictures are many already when the first of them is found so.
    pictures = RUN if verdict.state is PictureState.FROZEN else 1
    return CameraFault(
        state=state, reason=verdict.reason, since=at, frame=frame.id, newest=at, pictures=pictures
    )
