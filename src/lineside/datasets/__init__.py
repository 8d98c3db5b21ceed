"""Labelled pictures: read from files or taught from the line, frozen to versions, split, checked.

Main names: ``load_source`` (list files, CSV, class folders), ``Library`` (drafts and versions on
the store), ``Sample`` (with ``Marked`` objects), ``DatasetVersion``, ``split``, ``folds``,
``grouped``, ``find_leaks``.
Not here: cameras (frames are handed in), networks and features of networks (handed in as vectors).
"""

from lineside.datasets.checking import (
    CheckedRecords,
    check_records,
    index_again,
    iter_images,
    iter_records,
    label_words,
)
from lineside.datasets.choice import Choice, read_ids
from lineside.datasets.classes import classes_beside, picture_suffix, read_classes
from lineside.datasets.diff import Change, VersionDiff, diff_versions
from lineside.datasets.drawing import drawn_thumbnail, is_drawn_on
from lineside.datasets.exact import split_exactly
from lineside.datasets.exports import Written, write_source
from lineside.datasets.formats import read_lst, read_table, write_lst
from lineside.datasets.freezing import FreezePlan
from lineside.datasets.grouping import grouped, natural_key
from lineside.datasets.judging import Entry
from lineside.datasets.leaks import (
    Leak,
    LeakCheck,
    LeakReport,
    Look,
    check_leaks,
    crossing,
    find_leaks,
    merge_leaks,
    parts_of,
    region_vectors,
)
from lineside.datasets.library import Added, Draft, Drawn, Library
from lineside.datasets.likeness import (
    LookLimits,
    inspection_of,
    leak_features,
    look_at,
    picture_looks,
    plan_freeze,
)
from lineside.datasets.listing import ListPlan, MadeLists, make_lists
from lineside.datasets.near import NearLimits
from lineside.datasets.packing import Packed, PackPlan, pack_lists
from lineside.datasets.parting import Parting, parted
from lineside.datasets.recordio import ImageRecord, Record
from lineside.datasets.report import (
    DatasetReport,
    Subject,
    dataset_report,
    subject_of_source,
    subject_of_version,
)
from lineside.datasets.report_page import report_page
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
from lineside.datasets.tags import Tag, TagMove
from lineside.datasets.versions import (
    DatasetVersion,
    Judgement,
    VersionFacts,
    decode_version,
    version_digest,
)

__all__ = [
    "Added",
    "Change",
    "CheckedRecords",
    "Choice",
    "DatasetReport",
    "DatasetVersion",
    "Draft",
    "Drawn",
    "Entry",
    "FreezePlan",
    "ImageRecord",
    "Import",
    "Judgement",
    "Leak",
    "LeakCheck",
    "LeakReport",
    "Library",
    "ListPlan",
    "Look",
    "LookLimits",
    "MadeLists",
    "Marked",
    "NearLimits",
    "PackPlan",
    "Packed",
    "Part",
    "Parting",
    "Reading",
    "Record",
    "Sample",
    "Skipped",
    "Subject",
    "Tag",
    "TagMove",
    "VersionDiff",
    "VersionFacts",
    "Written",
    "check_leaks",
    "check_records",
    "classes_beside",
    "crossing",
    "dataset_report",
    "decode_version",
    "diff_versions",
    "drawn_thumbnail",
    "find_leaks",
    "folds",
    "grouped",
    "index_again",
    "inspection_of",
    "is_drawn_on",
    "iter_images",
    "iter_records",
    "judged",
    "label_names",
    "label_words",
    "leak_features",
    "load_source",
    "look_at",
    "make_lists",
    "merge_leaks",
    "merge_same_pictures",
    "natural_key",
    "pack_lists",
    "part_of",
    "parted",
    "parts_of",
    "picture_looks",
    "picture_suffix",
    "plan_freeze",
    "plan_source",
    "read_classes",
    "read_ids",
    "read_lst",
    "read_table",
    "region_vectors",
    "report_page",
    "split",
    "split_exactly",
    "subject_of_source",
    "subject_of_version",
    "version_digest",
    "write_lst",
    "write_source",
]
