"""Readers and writers of labelled sources, one file each.

A reader gives a ``Listing``: entries one after the other, no picture opened yet. A writer takes
``Outgoing`` pictures and writes what their format has for them.

Main names: ``Row``, ``Entry``, ``Listing``, ``Truth``; ``FORMATS`` with every reader by its word.
Not here: opening and checking pictures (``lineside.datasets.sources``).
"""

from lineside.datasets.formats.lst import ListLine, NumberForm, list_lines, read_lst, write_lst
from lineside.datasets.formats.objects import BOXES, POINTS, Objects, read_objects
from lineside.datasets.formats.readers import FORMATS, Asked, Reader, reader_for
from lineside.datasets.formats.rows import Entry, Listing, Row, Source, Truth, left_out, number
from lineside.datasets.formats.table import read_table

__all__ = [
    "BOXES",
    "FORMATS",
    "POINTS",
    "Asked",
    "Entry",
    "ListLine",
    "Listing",
    "NumberForm",
    "Objects",
    "Reader",
    "Row",
    "Source",
    "Truth",
    "left_out",
    "list_lines",
    "number",
    "read_lst",
    "read_objects",
    "read_table",
    "reader_for",
    "write_lst",
]
