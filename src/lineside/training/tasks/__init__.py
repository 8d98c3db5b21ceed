"""Learning each task: one folder a task, behind one contract.

Main names: ``Work``, ``Trained``, ``learner_for``. Not here: the package that a training ends with
(``lineside.training.run``).
"""

from lineside.training.tasks.contract import Learner, Trained, Work
from lineside.training.tasks.metrics import learner_for

__all__ = ["Learner", "Trained", "Work", "learner_for"]
