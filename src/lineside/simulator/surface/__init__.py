"""Simulated brushed-metal parts on a belt: good ones, scratched, dented and stained ones.

Parts and their faults (``parts``) are records that follow from a seed alone; ``plate`` and
``faults`` render a part, ``picture`` what the camera sees of it with the mask of what is wrong,
``folder`` writes pictures with masks and labels, ``line`` shows them on a bus. Not here: judging
them, and anything that looks at a plant file.
"""
