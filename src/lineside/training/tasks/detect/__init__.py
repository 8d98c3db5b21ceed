"""Finding objects: network, targets, crops, fitting, and the rule from held-out pictures.

Main names: ``CentreNetwork``, ``Scenes``, ``fit``, ``ValidationPicture``. Not here: reading maps
(vision).
"""
