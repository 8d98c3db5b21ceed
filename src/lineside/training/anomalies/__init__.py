"""Learning from good parts only: how they lie, what their patches are like, what is too far.

Main names: ``Scene`` and ``scene_of``; ``Patches`` and ``patches_of``; the scorers; ``choose``.
Not here: the device's side (``lineside.vision.pose``, ``lineside.vision.anomaly``), the learner
itself (``lineside.training.tasks.anomaly``).
"""
