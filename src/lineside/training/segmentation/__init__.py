"""Learning masks of defects: network, crops, losses, fitting, and from scores to a rule.

Main names: ``UNet``, ``Lesson``, ``fit``, ``mask_rule``. Not here: what a device does with the map
(``lineside.vision.masks``), the order of a training (``lineside.training.tasks.segment``).
"""
