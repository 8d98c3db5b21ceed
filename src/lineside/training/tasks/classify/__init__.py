"""Classes of whole pictures: frozen features, a linear head, fine-tuning, decisions.

Main names: ``InputSpec``, ``FeatureReader``, ``choose_head``, ``class_rule``. Not here:
decisions on a device (``lineside.vision``).
"""
