"""A simulated store of shelf bins: what lies in each, what the camera sees, what was recorded.

Goods and bins (``goods``, ``store``) are records that follow from a seed alone; ``picture`` renders
what the camera sees of one, ``folder`` writes pictures with their records beside them, ``line``
shows them on a bus. Not here: counting, and anything that looks at a plant file.
"""
