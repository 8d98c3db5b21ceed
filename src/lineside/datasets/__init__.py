"""Labelled pictures: read from files or taught from the line, frozen to versions, split, checked.

Main names: ``load_source`` (list files, CSV, class folders), ``Library`` (drafts and versions on
the store), ``Sample`` (with ``Marked`` objects), ``DatasetVersion``, ``split``, ``folds``,
``grouped``, ``find_leaks``.
Not here: cameras (frames are handed in), networks and features of networks (handed in as vectors).
"""

from lineside.datasets.choice import Choice, read_ids
from lineside.datasets.formats import read_lst, read_table, write_lst
from lineside.datasets.grouping import grouped, natural_key
from lineside.datasets.leaks import (
    Leak,
    crossing,
    find_leaks,
    merge_leaks,
    parts_of,
    region_vectors,
)
from lineside.datasets.library import Added, Draft, Entry, FreezePlan, Library
from lineside.datasets.likeness import inspection_of, leak_features, plan_freeze
from lineside.datasets.samples import (
    Import,
    Marked,
    Part,
    Sample,
    Skipped,
    judged,
    label_names,
    merge_same_pictures,
    part_of,
)
from lineside.datasets.sources import Reading, load_source, plan_source
from lineside.datasets.split import folds, split
from lineside.datasets.versions import DatasetVersion, Judgement, version_digest

__all__ = [
    "Added",
    "Choice",
    "DatasetVersion",
    "Draft",
    "Entry",
    "FreezePlan",
    "Import",
    "Judgement",
    "Leak",
    "Library",
    "Marked",
    "Part",
    "Reading",
    "Sample",
    "Skipped",
    "crossing",
    "find_leaks",
    "folds",
    "grouped",
    "inspection_of",
    "judged",
    "label_names",
    "leak_features",
    "load_source",
    "merge_leaks",
    "merge_same_pictures",
    "natural_key",
    "part_of",
    "parts_of",
    "plan_freeze",
    "plan_source",
    "read_ids",
    "read_lst",
    "read_table",
    "region_vectors",
    "split",
    "version_digest",
    "write_lst",
]
