"""Contract suites and fakes, for the tests here and for third-party adapters.

Main names: ``FakeClock``; the suites stand in ``testing.store`` and ``testing.links``.
Not here: anything a program uses while it runs.
"""

from lineside.testing.clock import FakeClock

__all__ = ["FakeClock"]
