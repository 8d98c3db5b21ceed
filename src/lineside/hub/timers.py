"""What happens by the clock: orders and time-outs, anchors, ageing out, snapshots, housekeeping."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from lineside.core import Clock, LinesideError
from lineside.hub.config import Retention
from lineside.hub.peers import DEVICES
from lineside.hub.retention import RetentionSweep
from lineside.hub.rules.service import FOLLOWER as RULES
from lineside.hub.services import Services

logger = logging.getLogger(__name__)

ORDERS, HOUSEKEEPING = "orders", "housekeeping"
"""Parts whose leases are of this module; the duties of other parts go with those."""
_TICK_S = 0.5
_JOBS_S = 1.0
_DEVICES_S = 2.0
_ANCHOR_S = 60.0
_SNAPSHOT_S = 30.0
_SWEEP_S = 10.0
_HOUSEKEEPING_S = 600.0


@dataclass(slots=True, kw_only=True)
class _Duty:
    """Something to do every so often, by the hub that has the lease of its part; "": by all."""

    name: str
    every_s: float
    act: Callable[[], object]
    part: str = ""
    next_s: float = 0.0
    failed: bool = False


class Timers:
    """One thread that does what is due; a failure of one duty does not stop the others."""

    def __init__(self, services: Services, *, clock: Clock) -> None:
        self._clock = clock
        self._stop = threading.Event()
        desk = services.job_desk
        self._duties = [
            _Duty(name="orders", every_s=_TICK_S, act=services.tick, part=ORDERS),
            _Duty(name="jobs", every_s=_JOBS_S, act=desk.tick, part=DEVICES),
            _Duty(name="job messages", every_s=_JOBS_S, act=desk.say_waiting),
            _Duty(name="desired states", every_s=_JOBS_S, act=services.desired.tick),
            _Duty(name="roll-outs", every_s=_JOBS_S, act=services.rollouts.tick, part=DEVICES),
            _Duty(name="devices", every_s=_DEVICES_S, act=services.devices.flush, part=DEVICES),
            _Duty(name="snapshot", every_s=_SNAPSHOT_S, act=services.ledger.keep_snapshot),
            *_housekeeping(services),
        ]
        if services.plant.rule:
            self._duties.append(
                _Duty(name="rules", every_s=_TICK_S, act=services.rules.tick, part=RULES)
            )
        self._own = [services.leases.lease(name) for name in (ORDERS, HOUSEKEEPING)]
        self._leases = {
            duty.part: services.leases.lease(duty.part) for duty in self._duties if duty.part
        }
        self._thread = threading.Thread(target=self._run, name="timers")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the duty in hand."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for lease in self._own:
            lease.release()

    def step(self) -> None:
        """Do what is due now."""
        for lease in self._own:
            lease.hold()
        for duty in self._duties:
            now_s = self._clock.monotonic()
            if now_s >= duty.next_s and self._may(duty):
                duty.next_s = now_s + duty.every_s
                _do(duty)

    def _may(self, duty: _Duty) -> bool:
        return not duty.part or self._leases[duty.part].is_held

    def _run(self) -> None:
        while not self._stop.wait(_TICK_S / 2):
            self.step()


def _housekeeping(services: Services) -> list[_Duty]:
    duties = [
        _Duty(name="codes", every_s=_HOUSEKEEPING_S, act=services.enrolment.sweep),
        _Duty(name="trust", every_s=_HOUSEKEEPING_S, act=services.releases.renew),
        _Duty(name="anchor", every_s=_ANCHOR_S, act=services.ledger.anchor),
        _Duty(name="sessions", every_s=_HOUSEKEEPING_S, act=services.auth.sweep),
    ]
    if services.config.retention != Retention():
        retained = RetentionSweep(services)
        services.stats.watch("data_bytes", lambda: retained.data_bytes)
        duties.append(_Duty(name="retention", every_s=_SWEEP_S, act=retained.run))
    return [replace(duty, part=HOUSEKEEPING) for duty in duties]


def _do(duty: _Duty) -> None:
    try:
        duty.act()
    except LinesideError as error:
        if not duty.failed:
            logger.warning("duty failed name=%s reason=%s", duty.name, error)
        duty.failed = True
    except Exception:  # boundary
        logger.exception("duty failed name=%s", duty.name)
        duty.failed = True
    else:
        if duty.failed:
            logger.info("duty works again name=%s", duty.name)
        duty.failed = False
