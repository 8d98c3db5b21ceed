"""``lineside dataset``: versions, how they are parted, what leaks, what changed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lineside.cli.dataset_place import (
    BlobsOption,
    ConfigOption,
    RecordsOption,
    StoreOption,
    library,
    place_of,
)
from lineside.cli.dataset_report import report
from lineside.cli.output import JsonFlag, show, table
from lineside.core import InvalidError

if TYPE_CHECKING:
    from lineside.datasets import Change, DatasetVersion, Leak, Part, Sample

Name = Annotated[str, typer.Argument(help="The dataset's name.")]
Which = Annotated[str, typer.Option("--version", help="A number or a tag; else the newest.")]
By = Annotated[str, typer.Option(help="Who does it.")]
_DEFAULT_SHARES = "0.8,0.1,0.1"
_MOST_SHOWN = 50


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("list")(list_datasets)
    group.command("show")(show_dataset)
    group.command("split")(split)
    group.command("freeze")(freeze)
    group.command("leaks")(leaks)
    group.command("diff")(diff)
    group.command("tag")(tag)
    group.command("report")(report)
    group.command("export")(export)


def list_datasets(
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List datasets."""
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        names = datasets.names()
    show({"datasets": names}, as_json=as_json, text=lambda _: "\n".join(names))


def show_dataset(
    name: Name,
    which: Which = "",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show a frozen version: its figures, labels, parts, leaks and tags."""
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        version = datasets.find(name, which)
        tags = [one.name for one in datasets.tags(name) if one.version == version.number]
    result = _facts(version) | {"tags": tags}
    show(
        result,
        as_json=as_json,
        text=lambda told: table(
            [
                ("version", f"{name}/{told['version']}"),
                ("digest", told["digest"]),
                ("frozen", f"{version.created_at:%Y-%m-%d %H:%M} by {version.created_by}"),
                ("samples", str(told["samples"])),
                ("labels", _counts(told["labels"])),
                ("parts", _counts(told["splits"]) or "not parted"),
                ("leaks", f"{len(version.leaks)}{', between parts too' * version.leaking}"),
                ("tags", ", ".join(tags)),
            ]
        ),
    )


def _facts(version: "DatasetVersion") -> dict[str, Any]:
    labels = Counter(label for sample in version.samples for label in sample.labels)
    return {
        "dataset": version.name,
        "version": version.number,
        "digest": version.digest,
        "samples": len(version.samples),
        "labels": dict(sorted(labels.items())),
        "splits": {str(part): len(members) for part, members in version.splits.items()},
        "leaks": version.leaks,
        "created_at": version.created_at,
        "created_by": version.created_by,
        "parting": version.parting,
    }


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def split(
    name: Name,
    shares: Annotated[
        str, typer.Option(help="TRAIN,VALID,TEST, such as 0.8,0.1,0.1.")
    ] = _DEFAULT_SHARES,
    by: Annotated[
        str, typer.Option(help="group: groups stay together; sample: each on its own.")
    ] = "group",
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="Which pictures fall into which part.")] = None,
    fold: Annotated[str, typer.Option(help="I/K: fold I of K is the test part.")] = "",
    exact: Annotated[str, typer.Option(help="As another tool splits: cuts, draws or list.")] = "",
    plain: Annotated[
        bool, typer.Option(help="Do not spread labels evenly: adding pictures moves none.")
    ] = False,
    anew: Annotated[
        bool, typer.Option(help="Pass over declared parts and those of the newest version.")
    ] = False,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Say how the next version is parted, and show the parts."""
    from lineside.datasets import Parting

    own_shares = not (exact and shares == _DEFAULT_SHARES)
    parting = Parting(
        shares=shares_of(shares) if own_shares else {},
        by=_by(by),
        group=group,
        seed=seed,
        **_fold(fold),
        exact=exact,
        stratified=not plain,
        anew=anew,
    )
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        parts = datasets.split(name, parting)
    result = {
        "dataset": name,
        "splits": {str(part): len(members) for part, members in parts.items()},
        "labels": _by_label(parts),
        "groups": {
            str(part): len({s.group for s in held if s.group}) for part, held in parts.items()
        },
        "parting": parting,
    }
    show(result, as_json=as_json, text=_split_table)


def _by_label(parts: "Mapping[Part, Sequence[Sample]]") -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for part, members in parts.items():
        for sample in members:
            for label in sample.labels:
                counts = found.setdefault(label, {str(each): 0 for each in parts})
                counts[str(part)] += 1
    return dict(sorted(found.items()))


def _split_table(told: Mapping[str, Any]) -> str:
    parts = list(told["splits"])
    rows = [("", *parts), ("pictures", *(str(told["splits"][part]) for part in parts))]
    if any(told["groups"].values()):
        rows.append(("groups", *(str(told["groups"][part]) for part in parts)))
    rows += [
        (label, *(str(counts[part]) for part in parts)) for label, counts in told["labels"].items()
    ]
    return table(rows) + "\nThe next version is parted like this."


def _by(word: str) -> Any:  # noqa: ANN401  a word that is checked here
    if word not in ("group", "sample"):
        raise InvalidError(f"{word!r} is neither group nor sample", where="--by", fix="Choose one.")
    return word


def _fold(text: str) -> dict[str, int]:
    fold, slash, folds = text.partition("/")
    if not text:
        return {}
    if not (slash and fold.isdecimal() and folds.isdecimal() and len(text) < 12):
        raise InvalidError(f"{text!r} is no fold", where="--fold", fix="Write I/K, as in 2/5.")
    return {"fold": int(fold), "folds": int(folds)}


def shares_of(text: str) -> "dict[Part, float]":
    """``TRAIN,VALID,TEST`` as shares; nothing for the empty text."""
    from lineside.datasets import Part

    if not text:
        return {}
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not min(numbers) >= 0 or not abs(sum(numbers) - 1) <= 1e-6:
        raise InvalidError(
            f"{text!r} is no split", where="--shares", fix="Write three shares, as in 0.8,0.1,0.1."
        )
    parts = (Part.TRAIN, Part.VALID, Part.TEST)
    return {part: share for part, share in zip(parts, numbers, strict=True) if share > 0}


def freeze(
    name: Name,
    shares: Annotated[
        str, typer.Option(help="TRAIN,VALID,TEST; default: as `dataset split` said.")
    ] = "",
    seed: Annotated[int | None, typer.Option(help="With --shares.")] = None,
    compare: Annotated[
        int, typer.Option(min=0, help="Look for near-duplicates among so many pictures.")
    ] = 20_000,
    by: By = "command line",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Freeze the draft to an immutable version, parted, with its leak report."""
    from dataclasses import replace

    from lineside.datasets import LookLimits, Parting, plan_freeze

    wanted = shares_of(shares)
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    limits = LookLimits(pictures=compare, registered=min(compare, 2000))
    with library(place) as (datasets, _):
        plan = plan_freeze(datasets, name, inspections=place.inspections, limits=limits)
        if wanted:
            plan = replace(plan, parting=Parting(shares=wanted, seed=seed))
        version = datasets.freeze(name, by=by, plan=plan)
    told = _facts(version)
    result = {key: told[key] for key in ("dataset", "version", "digest", "splits", "leaks")}
    show(
        result,
        as_json=as_json,
        text=lambda done: f"{name}/{done['version']} {done['digest']}\n" + _leak_line(version),
    )


def _leak_line(version: "DatasetVersion") -> str:
    across = sum(leak.crosses for leak in version.leaks)
    return f"{len(version.leaks)} leaks, {across} of them between parts"


def leaks(
    name: Name,
    which: Which = "",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show a version's leak report: pairs too alike, their parts, and what was not compared."""
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        version = datasets.find(name, which)
    check = version.leak_check
    show(
        {"dataset": name, "version": version.number, "leaks": version.leaks, "check": check},
        as_json=as_json,
        text=lambda _: "\n".join(
            [
                f"{name}/{version.number}: {_leak_line(version)}",
                *_leak_rows(version.leaks),
                *(check.said(version.leaks_by) if check else ()),
            ]
        ),
    )


def _leak_rows(found: "Sequence[Leak]") -> list[str]:
    rows: list[tuple[str, ...]] = [
        (
            leak.kind,
            f"{leak.similarity:.3f}",
            " and ".join(part or "not parted" for part in leak.splits),
            leak.a,
            leak.b,
        )
        for leak in found[:_MOST_SHOWN]
    ]
    more = [f"and {len(found) - _MOST_SHOWN} more; --json lists them"]
    return [table(rows)] * bool(rows) + more * (len(found) > _MOST_SHOWN)


def diff(
    name: Name,
    a: Annotated[str, typer.Argument(help="The earlier version: a number or a tag.")],
    b: Annotated[str, typer.Argument(help="The later one; else the newest.")] = "",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Show what changed from one version to another."""
    from lineside.datasets import diff_versions

    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        found = diff_versions(datasets.find(name, a), datasets.find(name, b))
    lists = {
        "added": found.added,
        "removed": found.removed,
        "relabelled": found.relabelled,
        "redrawn": found.redrawn,
        "moved": found.moved,
        "regrouped": found.regrouped,
    }
    show(
        {"a": found.a, "b": found.b, **lists},
        as_json=as_json,
        text=lambda _: "\n".join(
            [f"{found.a} to {found.b}", *(_changes(word, one) for word, one in lists.items())]
        ),
    )


def _changes(word: str, changes: "Sequence[Change]") -> str:
    rows = [
        f"  {one.name}: {one.before or '-'} → {one.after or '-'}"
        + (f", {one.by}" if one.by else "")
        for one in changes[:_MOST_SHOWN]
    ]
    more = [f"  and {len(changes) - _MOST_SHOWN} more"] * (len(changes) > _MOST_SHOWN)
    return "\n".join([f"{word} {len(changes)}", *rows, *more])


def tag(
    name: Name,
    tag_name: Annotated[str, typer.Argument(metavar="[TAG]", help="Such as prod.")] = "",
    which: Which = "",
    remove: Annotated[bool, typer.Option("--remove", help="Take it off.")] = False,
    by: By = "command line",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Put a tag on a version, take it off, or list all tags with their history."""
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        if tag_name and remove:
            datasets.untag(name, tag_name, by=by)
        elif tag_name:
            number = datasets.find(name, which).number
            datasets.tag(name, tag_name, number=number, by=by)
        tags = datasets.tags(name)
    rows: list[tuple[str, ...]] = [
        (
            one.name,
            f"version {move.version}" if move.version else "taken off",
            move.by,
            f"{move.at:%Y-%m-%d %H:%M}",
        )
        for one in tags
        for move in reversed(one.history)
    ]
    listed = [{"name": one.name, "version": one.version, "history": one.history} for one in tags]
    show(
        {"dataset": name, "tags": listed},
        as_json=as_json,
        text=lambda _: table(rows) or "no tags",
    )


def export(
    name: Name,
    to: Annotated[Path, typer.Option(help="A folder that is not there yet, or empty.")],
    which: Which = "",
    form: Annotated[str, typer.Option("--format", help="csv, lst, coco, yolo, voc …")] = "csv",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a version as files that other tools, and `dataset import`, read."""
    from lineside.datasets import write_source

    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, _):
        version = datasets.find(name, which)
        write_source(version.parted, files=datasets.read_file, to=to, format=form)
    result = {"dataset": name, "version": version.number, "samples": len(version.samples)}
    show(
        result | {"to": str(to)},
        as_json=as_json,
        text=lambda told: f"{told['samples']} pictures of {name}/{told['version']} in {to}",
    )
