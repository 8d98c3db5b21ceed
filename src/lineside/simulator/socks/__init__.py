"""A simulated sorting table: socks of six designs, laid under a camera one after the other.

Designs (``designs``) and the order in which socks come (``basket``) are records that follow from a
seed alone; ``knit`` gives a sock's cloth, ``scene`` what the camera sees of it with table, hand
and shadow, ``folder`` writes labelled pictures, ``line`` shows the table on a bus. The patterns are
made up here and belong to nobody. Not here: telling socks apart, and anything that looks at a plant
file.
"""
