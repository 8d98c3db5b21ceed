"""The bin counter: who asked for which count, what the inventory says, what people corrected.

``views`` are the records that API and pages answer with, ``counter`` asks, remembers and corrects.
Not here: the pictures on offer (``lineside.hub.inference.functions``), and how a picture is judged.
"""
