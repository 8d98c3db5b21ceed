"""Counts on request: who asked for which count, what the inventory says, what people corrected.

Not here: the pictures on offer (``lineside.hub.inference.functions``), and how a picture is judged.
"""
