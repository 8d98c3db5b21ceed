"""Whether a picture may be judged: the manifest's limits held against its figures."""

from dataclasses import dataclass
from datetime import datetime

from lineside.core import Digest
from lineside.models.manifest import HealthLimits
from lineside.vision import Frame, HealthFigures, PictureState, RegistrationFigures

# A covered lens gives a mean grey of 0-5 with noise; half of all pixels clipped leave no scene;
# a sharpness below the noise of a JPEG's blocks has no edge to register by.
_BLACK_BELOW = 12.0
_CLIPPED_ABOVE = 0.5
_FLAT_BELOW = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A state other than ``ok`` comes with the sentence that says why."""

    state: PictureState = PictureState.OK
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """How often one camera sent the same bytes in a row, each with a later capture time."""

    digest: Digest
    captured_at: datetime
    count: int = 1


def repeated(before: Repeats | None, frame: Frame) -> Repeats:
    """Count a frame; the same frame delivered twice is one picture, not two."""
    if before is None or before.digest != frame.digest:
        return Repeats(digest=frame.digest, captured_at=frame.captured_at)
    if frame.captured_at <= before.captured_at:
        return before
    return Repeats(digest=frame.digest, captured_at=frame.captured_at, count=before.count + 1)


def judge_repeats(limits: HealthLimits, *, repeats: int) -> Verdict:
    """A camera that sends the same bytes again and again shows the past."""
    if 0 < limits.frozen_after <= repeats:
        reason = f"the same picture {repeats} times in a row"
        return Verdict(state=PictureState.FROZEN, reason=reason)
    return Verdict()


def judge_picture(figures: HealthFigures, limits: HealthLimits) -> Verdict:
    """Exposure and sharpness as in the training pictures; the first fault found is the answer."""
    grey, clipped = figures.mean_grey, figures.clipped_share
    if grey < limits.mean_grey_min:
        reason = f"mean grey {grey:.1f} is below {limits.mean_grey_min:.1f}"
        return Verdict(state=PictureState.BLACK, reason=reason)
    if grey > limits.mean_grey_max:
        reason = f"mean grey {grey:.1f} is above {limits.mean_grey_max:.1f}"
        return Verdict(state=PictureState.OVEREXPOSED, reason=reason)
    if clipped > limits.clipped_share_max:
        reason = f"{clipped:.0%} of the picture is clipped, at most {limits.clipped_share_max:.0%}"
        return Verdict(state=PictureState.OVEREXPOSED, reason=reason)
    if figures.sharpness < limits.sharpness_min:
        reason = f"sharpness {figures.sharpness:.1f} is below {limits.sharpness_min:.1f}"
        return Verdict(state=PictureState.BLURRED, reason=reason)
    return Verdict()


def judge_place(
    figures: RegistrationFigures, health: HealthFigures, *, limits: HealthLimits
) -> Verdict:
    """Whether the picture lies where regions can be read, and looks as it was learned.

    A picture that does not fit the reference view is "camera moved", however it is exposed: the
    limits were learned on that view and say nothing of another. Only a picture that shows nothing
    at all is called black, overexposed or blurred instead.
    """
    looks = judge_picture(health, limits)
    if figures.state == "moved":
        if looks.state is not PictureState.OK and _shows_nothing(health):
            return looks
        more = f"; also, {looks.reason}" if looks.reason else ""
        return Verdict(state=PictureState.CAMERA_MOVED, reason=figures.reason + more)
    if looks.state is not PictureState.OK:
        return looks
    if figures.residual_px > limits.residual_max_px:
        reason = f"residual {figures.residual_px:.1f} px is above {limits.residual_max_px:.1f} px"
        return Verdict(state=PictureState.CAMERA_MOVED, reason=reason)
    return Verdict()


def _shows_nothing(health: HealthFigures) -> bool:
    dark, flat = health.mean_grey < _BLACK_BELOW, health.sharpness < _FLAT_BELOW
    return dark or flat or health.clipped_share > _CLIPPED_ABOVE


def judge_features(figures: HealthFigures, limits: HealthLimits) -> Verdict:
    """Whether the network has seen pictures like this one."""
    distance, most = figures.feature_distance, limits.feature_distance_max
    if distance > most:
        reason = f"Unlike the training images ({distance:.2f}, limit {most:.2f})"
        return Verdict(state=PictureState.UNFAMILIAR, reason=reason)
    return Verdict()
