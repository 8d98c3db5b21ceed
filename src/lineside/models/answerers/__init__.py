"""How a package of each task answers a picture: one file a task, behind one contract.

Main names: ``Answerer``, ``Said``, ``answerer_for``. Not here: the order of checks and the places
of cameras (``lineside.models.predictor``), decisions (vision).
"""

from lineside.models.answerers.contract import Answerer, Place, Said, probe
from lineside.models.answerers.table import answerer_for

__all__ = ["Answerer", "Place", "Said", "answerer_for", "probe"]
