"""Finding objects: network, targets, crops, fitting, and the rule from held-out pictures.

Main names: ``CentreNetwork``, ``Scenes``, ``fit``, ``HeldOutPicture``. Not here: reading maps
(vision).
"""
