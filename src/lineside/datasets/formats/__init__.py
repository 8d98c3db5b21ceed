"""Readers of labelled sources, one file each.

A reader gives a ``Listing``: entries one after the other, no picture opened yet.

Main names: ``Row``, ``Entry``, ``Listing``, ``Truth``; ``FORMATS`` with every reader by its word.
Not here: opening and checking pictures (``lineside.datasets.sources``), writing
(``lineside.datasets.writers``).
"""

from lineside.datasets.formats.lst import ListLine, NumberForm, list_lines, read_lst, write_lst
from lineside.datasets.formats.readers import FORMATS, Reader, SourceRequest, none_here, reader_for
from lineside.datasets.formats.rle import Mask, box_of, compressed, marks_of, mask_png, runs_of
from lineside.datasets.formats.rows import Entry, Listing, Row, Source, Truth, left_out, number
from lineside.datasets.formats.table import (
    BOXES,
    KNOWN_COLUMN,
    OWN_COLUMNS,
    POINTS,
    Objects,
    read_objects,
    read_table,
)

__all__ = [
    "BOXES",
    "FORMATS",
    "KNOWN_COLUMN",
    "OWN_COLUMNS",
    "POINTS",
    "Entry",
    "ListLine",
    "Listing",
    "Mask",
    "NumberForm",
    "Objects",
    "Reader",
    "Row",
    "Source",
    "SourceRequest",
    "Truth",
    "box_of",
    "compressed",
    "left_out",
    "list_lines",
    "marks_of",
    "mask_png",
    "none_here",
    "number",
    "read_lst",
    "read_objects",
    "read_table",
    "reader_for",
    "runs_of",
    "write_lst",
]
