"""How each task is learned: one file a task, behind one contract.

Main names: ``Work``, ``Trained``, ``learner_for``. Not here: regions on a registered view
(``lineside.training.regions``), putting the package together (``lineside.training.finish``).
"""

from lineside.training.tasks.contract import Learner, Trained, Work
from lineside.training.tasks.table import learner_for

__all__ = ["Learner", "Trained", "Work", "learner_for"]
