"""Parts of lists, as operators ask for them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lineside.fleet.jobs.book import JobRow
from lineside.fleet.jobs.executions import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Part of a list; ``following`` is where the next part begins, empty at the end."""

    items: tuple[Any, ...]
    following: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which part of a list."""

    limit: int = 250
    after: str = ""
    status: str = ""
    selection: str = ""
    target: str = ""


def page_of(rows: Iterator[tuple[str, Any]], wanted: JobQuery) -> JobPage:
    """The first rows that fit the page."""
    items: list[Any] = []
    last = ""
    for place, row in rows:
        if len(items) == wanted.limit:
            return JobPage(items=tuple(items), following=last)
        items.append(row)
        last = place
    return JobPage(items=tuple(items), following="")


def fits_job(row: JobRow, wanted: JobQuery) -> bool:
    """Whether a job is among those wanted."""
    selection = "CONTINUOUS" if row.continuous else "SNAPSHOT"
    return (
        wanted.status in ("", row.status.value)
        and wanted.selection in ("", selection)
        and (not wanted.target or wanted.target in row.targets)
    )


def fits_run(run: Run, wanted: JobQuery) -> bool:
    """Whether an execution is among those wanted; ``target`` is its job."""
    return wanted.status in ("", run.status.value) and wanted.target in ("", run.job_id)
