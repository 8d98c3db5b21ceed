"""Labelled pictures: read from files or taught from the line, frozen to versions, split, checked.

Main names: ``load_source`` (list files, CSV, class folders), ``Library`` (drafts and versions on
the store), ``Sample`` (with ``Marked`` objects), ``DatasetVersion``, ``SplitPlan``.
Not here: cameras (frames are handed in), networks and features of networks (handed in as vectors).
"""

from lineside.datasets.leaks import ComparisonLimits, Leak
from lineside.datasets.library import Library, plan_freeze
from lineside.datasets.report.page import report_page
from lineside.datasets.report.report import dataset_report, subject_of_version
from lineside.datasets.samples import Marked, Part, Sample, label_names, shows_defect
from lineside.datasets.sources import load_source
from lineside.datasets.splitting import SplitPlan
from lineside.datasets.versions import Change, DatasetVersion, diff_versions

__all__ = [
    "Change",
    "ComparisonLimits",
    "DatasetVersion",
    "Leak",
    "Library",
    "Marked",
    "Part",
    "Sample",
    "SplitPlan",
    "dataset_report",
    "diff_versions",
    "label_names",
    "load_source",
    "plan_freeze",
    "report_page",
    "shows_defect",
    "subject_of_version",
]
