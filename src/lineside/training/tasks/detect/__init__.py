"""Finding objects: network, targets, crops, fitting, and the rule from held-out pictures.

Main names: ``CentreNetwork``, ``Scenes``, ``fit``, ``HeldOut``. Not here: reading maps (vision).
"""
