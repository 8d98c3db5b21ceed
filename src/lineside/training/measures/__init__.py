"""Figures of each task over judged pictures: one file a task, behind one contract.

Main names: ``Case``, ``Measured``, ``Worst``, ``measure_for``. Not here: arithmetic of single
figures (vision), judging (``lineside.training.judging``).
"""

from lineside.training.measures.contract import Case, Confusion, Measure, Measured, Worst
from lineside.training.measures.table import measure_for

__all__ = ["Case", "Confusion", "Measure", "Measured", "Worst", "measure_for"]
