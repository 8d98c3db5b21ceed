"""Learning each task: one folder a task, behind one contract.

Main names: ``Work``, ``Trained``, ``learner_for``, ``check_settings``. Not here: the package that a
training ends with (``lineside.training.run``).
"""

from lineside.training.tasks.contract import Learner, Trained, Work
from lineside.training.tasks.metrics import SETTINGS, check_settings, learner_for

__all__ = ["SETTINGS", "Learner", "Trained", "Work", "check_settings", "learner_for"]
