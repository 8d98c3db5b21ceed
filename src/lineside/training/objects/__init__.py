"""Finding and counting objects: network, targets, crops, fitting, what held-out pictures say.

Main names: ``CentreNetwork``, ``Scenes``, ``fit``, ``HeldOut``. Not here: reading maps (vision),
the tasks themselves (``lineside.training.tasks``), figures (``lineside.training.measures``).
"""
