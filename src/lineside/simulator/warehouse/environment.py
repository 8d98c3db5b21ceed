"""Climate and brightness: slow waves about usual values, a function of time and seed alone."""

import math
from datetime import datetime

from lineside.core import BrightnessMessage, ClimateMessage, rfc3339
from lineside.simulator.warehouse.light import Lighting
from lineside.simulator.warehouse.state import Outgoing

_LDR_OHM: dict[Lighting, int] = {"dark": 8250, "light": 2355, "neutral": 4100}
_LDR_MOST_OHM = 15000


def climate_message(*, at: datetime, elapsed_s: float, seed: int) -> Outgoing:
    """``i/bme680``: raw values stand beside the compensated ones, as the sensor gives them."""
    temperature = 22.3 + 0.8 * _wave(elapsed_s, period_s=600, seed=seed)
    humidity = 36.0 + 4 * _wave(elapsed_s, period_s=900, seed=seed + 1)
    message = ClimateMessage(
        ts=rfc3339(at),
        t=round(temperature, 1),
        rt=round(temperature + 2.8, 2),
        h=round(humidity, 1),
        rh=round(humidity - 2.0, 2),
        p=round(1012.0 + 2 * _wave(elapsed_s, period_s=1800, seed=seed + 2), 1),
        iaq=round(90 + 40 * _wave(elapsed_s, period_s=1200, seed=seed + 3)),
        aq=3,
        gr=round(161_000 + 9_000 * _wave(elapsed_s, period_s=1200, seed=seed + 4)),
    )
    return Outgoing(topic="i/bme680", message=message)


def brightness_message(
    *, at: datetime, elapsed_s: float, seed: int, lighting: Lighting
) -> Outgoing:
    """``i/ldr``: ``br`` is text with one decimal, as the firmware sends it."""
    ldr = _LDR_OHM[lighting] + round(150 * _wave(elapsed_s, period_s=300, seed=seed + 5))
    brightness = (_LDR_MOST_OHM - ldr) / 150
    message = BrightnessMessage(ts=rfc3339(at), ldr=ldr, br=f"{brightness:.1f}")
    return Outgoing(topic="i/ldr", message=message)


def _wave(elapsed_s: float, *, period_s: float, seed: int) -> float:
    """Two sines that never quite repeat, between -1 and 1."""
    phase = seed * 2.399963
    turn = 2 * math.pi * elapsed_s / period_s
    return 0.7 * math.sin(turn + phase) + 0.3 * math.sin(3.17 * turn + 2 * phase)
