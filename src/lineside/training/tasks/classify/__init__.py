"""Classes of whole pictures: frozen features, a linear head, fine-tuning, decisions.

Main names: ``Sight``, ``Looker``, ``choose_head``, ``class_rule``. Not here: decisions on a device
(``lineside.vision``).
"""
