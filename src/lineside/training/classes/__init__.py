"""Classes of whole pictures: frozen features, a linear head, fine-tuning, decisions.

Main names: ``Sight``, ``Looker``, ``choose_head``, ``class_rule``. Not here: the order of the steps
(``lineside.training.tasks.classify``), what a device does with a rule (``lineside.vision``).
"""
