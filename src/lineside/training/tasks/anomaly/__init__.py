"""Learning from good parts only: how they lie, their patches, the scorer, one limit.

Main names: ``Scene`` and ``scene_of``; ``Patches`` and ``patches_of``; the scorers; ``choose``.
Not here: the device's side (``lineside.vision.pose``, ``lineside.vision.anomaly``).
"""
