"""Learning masks of defects: network, crops, losses, fitting, and from scores to a rule.

Main names: ``UNet``, ``TrainingSet``, ``fit``, ``mask_rule``. Not here: a device's use of the map
(``lineside.vision.masks``).
"""
