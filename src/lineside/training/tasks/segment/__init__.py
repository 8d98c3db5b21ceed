"""Learning masks of defects: network, crops, losses, and from scores to a rule.

Main names: ``UNet``, ``TrainingSet``, ``MaskStudent``, ``mask_rule``. Not here: a device's use of
the map (``lineside.vision.masks``).
"""
