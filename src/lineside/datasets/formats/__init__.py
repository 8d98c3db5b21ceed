"""Readers of labelled sources, one file each: a ``Source`` of rows, no pictures opened yet.

Main names: ``Row``, ``Source``, ``Truth``, ``read_lst``, ``read_table``, ``read_folders``.
Not here: opening and checking pictures (``lineside.datasets.sources``).
"""

from lineside.datasets.formats.folders import looks_like_folders, read_folders
from lineside.datasets.formats.lst import read_lst, write_lst
from lineside.datasets.formats.objects import BOXES, POINTS, Objects, read_objects
from lineside.datasets.formats.rows import Row, Source, Truth
from lineside.datasets.formats.table import read_table

__all__ = [
    "BOXES",
    "POINTS",
    "Objects",
    "Row",
    "Source",
    "Truth",
    "looks_like_folders",
    "read_folders",
    "read_lst",
    "read_objects",
    "read_table",
    "write_lst",
]
