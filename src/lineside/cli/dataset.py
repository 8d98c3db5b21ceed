"""``lineside dataset``: labelled images, their versions, splits, leaks, differences and reports."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lineside.cli.config import load_hub
from lineside.cli.hub import ConfigOption
from lineside.cli.output import (
    COMMAND_LINE,
    JsonFlag,
    add_commands,
    say,
    show,
    stop_on_signal,
    table,
    writable,
)
from lineside.cli.running_hub import DATASET, TokenOption, hub_client
from lineside.core import (
    Digest,
    Inspection,
    InvalidError,
    NotFoundError,
    SystemClock,
    encode,
    load_plant,
)

if TYPE_CHECKING:
    from lineside.datasets import Change, DatasetVersion, Leak, Library, Part, Sample
    from lineside.datasets.report.report import Subject
    from lineside.store import FrameRow, Records

Files = Callable[[Digest], bytes]
Name = Annotated[str, typer.Argument(help="The dataset's name.")]
Which = Annotated[str, typer.Option("--version", help="A number or a tag; else the newest.")]
Actor = Annotated[str, typer.Option(help="Who does it.")]
By = Annotated[str, typer.Option(help="Whose labels these are.")]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="A folder that holds datasets without a hub.")
]
RecordsOption = Annotated[
    str,
    typer.Option("--records", envvar="LINESIDE_RECORDS", help="Records by URL, with --blobs."),
]
BlobsOption = Annotated[
    str, typer.Option("--blobs", envvar="LINESIDE_BLOBS", help="Blobs by URL, with --records.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where datasets are kept, and the plant file that names what they are judged by."""

    records: str
    blobs: str
    plant: Path | None = None

    @property
    def inspections(self) -> tuple[Inspection, ...]:
        """Those of the plant; none where the datasets stand alone."""
        return load_plant(self.plant).inspection if self.plant is not None else ()


def place_of(
    *, config: Path | None, store: Path | None, records: str, blobs: str, fresh: bool = False,
    address: str = "",
) -> Place:  # fmt: skip
    """The place that a command's options name; ``fresh`` makes a folder that is not there.

    ``address`` is that of a running hub, a place too, so that no other may be named beside it.
    """
    named = [config is not None, store is not None, bool(records or blobs), bool(address)]
    if sum(named) != 1 or bool(records) != bool(blobs):
        raise InvalidError(
            "no place of datasets named" if not any(named) else "two places of datasets named",
            where="--store",
            fix="Name the hub's file (--config), a folder (--store), or --records and --blobs.",
        )
    if config is not None:
        hub = load_hub(config).config
        return Place(records=hub.records_url, blobs=hub.blobs_url, plant=Path(hub.plant))
    if store is not None:
        return _in_folder(store.absolute(), fresh=fresh)
    return Place(records=records, blobs=blobs)


def _in_folder(folder: Path, *, fresh: bool) -> Place:
    records = folder / "records.db"
    if fresh:
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
    elif not records.is_file():
        raise NotFoundError(
            "no datasets in this folder", where=str(folder), fix="Import pictures into it first."
        )
    return Place(records=f"sqlite:///{records}", blobs=f"file://{folder / 'blobs'}")


@contextmanager
def open_library(
    config: Path | None, *, store: Path | None, records: str, blobs: str
) -> "Iterator[Library]":
    """The datasets of the place that a command's options name."""
    with library(place_of(config=config, store=store, records=records, blobs=blobs)) as (found, _):
        yield found


@contextmanager
def library(place: Place) -> "Iterator[tuple[Library, Records]]":
    """The datasets of a place, opened for one command."""
    from lineside.datasets import Library
    from lineside.store import open_blobs, open_records

    clock = SystemClock()
    with open_records(place.records, clock=clock) as records:
        blobs = open_blobs(place.blobs)
        try:
            yield Library(records, blobs, clock=clock), records
        finally:
            blobs.close()


def stores(
    config: Path | None, *, store: Path | None = None, records: str = "", blobs: str = ""
) -> tuple[str, str]:
    """Records and blobs of ``dataset://`` data; both empty where none are named."""
    if config is None and store is None and not (records or blobs):
        return "", ""
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    return place.records, place.blobs


def report(
    source: Annotated[
        str, typer.Argument(help="A dataset's name where a place is named, else files.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write it here: one HTML file, or JSON for .json.")
    ] = None,
    which: Annotated[
        str, typer.Option("--version", help="A number or a tag; else the newest.")
    ] = "",
    labels: Annotated[str, typer.Option(help="Of files: label names, by comma.")] = "",
    group: Annotated[
        str, typer.Option(help="Of files, how pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    pictures: Annotated[int, typer.Option(min=1, help="Look at so many at most.")] = 5000,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Sum up labelled pictures: balance, sizes, light, masks, counts, doubles, leaks, examples."""
    from lineside.datasets import dataset_report, report_page

    writable(out)
    if config is None and store is None and not (records or blobs):
        opened = _files(Path(source), labels=_names_in(labels), group=group)
    else:
        opened = _version(source, which, config=config, store=store, records=records, blobs=blobs)
    with opened as (subject, files):
        made = dataset_report(replace(subject, most_looked_at=pictures), files=files)
    if out is not None:
        out.write_bytes(encode(made) if out.suffix == ".json" else report_page(made))
    lines = [f"{made.pictures} pictures of {made.name}", *made.warnings]
    lines += [f"report in {out}"] if out else []
    show(replace(made, examples=()), as_json=as_json, text=lambda _: "\n".join(lines))


@contextmanager
def _version(
    name: str, which: str, *, config: Path | None, store: Path | None, records: str, blobs: str
) -> "Iterator[tuple[Subject, Files]]":
    from lineside.datasets import subject_of_version

    with open_library(config, store=store, records=records, blobs=blobs) as datasets:
        yield subject_of_version(datasets.find(name, which)), datasets.read_file


@contextmanager
def _files(
    source: Path, *, labels: tuple[str, ...], group: str
) -> "Iterator[tuple[Subject, Files]]":
    from lineside.datasets import load_source
    from lineside.datasets.report.report import subject_of_source

    found = load_source(source, labels=labels, group=group)
    yield subject_of_source(source.resolve().name, found), found.read_file


_DEFAULT_SHARES = "0.8,0.1,0.1"
_MOST_SHOWN = 50


def list_datasets(
    hub: Annotated[str, typer.Option("--hub", help="A running hub; left out: a place.")] = "",
    token: TokenOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """List datasets of a place, or with --hub of a running hub."""
    if hub and not (store or records or blobs):
        found = hub_client(hub, token=token, config=config).items("/datasets")
        names = tuple(one["name"] for one in found)
    else:
        if token is not None and not hub:
            raise InvalidError(
                "a token is for a running hub", where="--token", fix="Name the hub with --hub too."
            )
        place = place_of(config=config, store=store, records=records, blobs=blobs, address=hub)
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
    with open_library(config, store=store, records=records, blobs=blobs) as datasets:
        version = datasets.find(name, which)
        tags = [one.name for one in datasets.tags(name) if one.version == version.number]
    result = _facts(version) | {"tags": tags}
    show(
        result,
        as_json=as_json,
        text=lambda figures: table(
            [
                ("version", f"{name}/{figures['version']}"),
                ("digest", figures["digest"]),
                ("frozen", f"{version.created_at:%Y-%m-%d %H:%M} by {version.created_by}"),
                ("samples", str(figures["samples"])),
                ("labels", _counts(figures["labels"])),
                ("parts", _counts(figures["splits"]) or "not split"),
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


def _names_in(labels: str) -> tuple[str, ...]:
    return tuple(name for name in labels.split(",") if name)


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
    """Say how the next version is split, and show the parts."""
    from lineside.datasets import SplitPlan

    own_shares = not (exact and shares == _DEFAULT_SHARES)
    number, count = _fold(fold)
    plan = SplitPlan(
        shares=shares_of(shares) if own_shares else {},
        by=_by(by),
        group=group,
        seed=seed,
        fold=number,
        folds=count,
        exact=exact,
        stratified=not plain,
        anew=anew,
    )
    with open_library(config, store=store, records=records, blobs=blobs) as datasets:
        parts = datasets.split(name, plan)
    result = {
        "dataset": name,
        "splits": {str(part): len(members) for part, members in parts.items()},
        "labels": _by_label(parts),
        "groups": {
            str(part): len({s.group for s in held if s.group}) for part, held in parts.items()
        },
        "parting": plan,
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


def _split_table(figures: Mapping[str, Any]) -> str:
    parts = list(figures["splits"])
    rows = [("", *parts), ("pictures", *(str(figures["splits"][part]) for part in parts))]
    if any(figures["groups"].values()):
        rows.append(("groups", *(str(figures["groups"][part]) for part in parts)))
    rows += [
        (label, *(str(counts[part]) for part in parts))
        for label, counts in figures["labels"].items()
    ]
    return table(rows) + "\nThe next version is split like this."


def _by(word: str) -> Any:  # noqa: ANN401  a word that is checked here
    if word not in ("group", "sample"):
        raise InvalidError(f"{word!r} is neither group nor sample", where="--by", fix="Choose one.")
    return word


def _fold(text: str) -> tuple[int, int]:
    """Number and count of folds; 0 and 0 for none."""
    fold, slash, folds = text.partition("/")
    if not text:
        return 0, 0
    if not (slash and fold.isdecimal() and folds.isdecimal() and len(text) < 12):
        raise InvalidError(f"{text!r} is no fold", where="--fold", fix="Write I/K, as in 2/5.")
    return int(fold), int(folds)


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
    by: Actor = COMMAND_LINE,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Freeze the draft to an immutable version, split, with its leak report."""
    from lineside.datasets import ComparisonLimits, SplitPlan, plan_freeze

    wanted = shares_of(shares)
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    limits = ComparisonLimits(pictures=compare, registered=min(compare, 2000))
    with library(place) as (datasets, _):
        plan = plan_freeze(datasets, name, inspections=place.inspections, limits=limits)
        if wanted:
            plan = replace(plan, split=SplitPlan(shares=wanted, seed=seed))
        version = datasets.freeze(name, by=by, plan=plan)
    figures = _facts(version)
    result = {key: figures[key] for key in ("dataset", "version", "digest", "splits", "leaks")}
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
    with open_library(config, store=store, records=records, blobs=blobs) as datasets:
        version = datasets.find(name, which)
    check = version.leak_check
    show(
        {"dataset": name, "version": version.number, "leaks": version.leaks, "check": check},
        as_json=as_json,
        text=lambda _: "\n".join(
            [
                f"{name}/{version.number}: {_leak_line(version)}",
                *_leak_rows(version.leaks),
                *(check.describe(version.leaks_by) if check else ()),
            ]
        ),
    )


def _leak_rows(found: "Sequence[Leak]") -> list[str]:
    rows: list[tuple[str, ...]] = [
        (
            leak.words,
            f"{leak.similarity:.3f}",
            " and ".join(part or "not split" for part in leak.splits),
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

    with open_library(config, store=store, records=records, blobs=blobs) as datasets:
        found = diff_versions(datasets.find(name, a), datasets.find(name, b))
    kinds = ("added", "removed", "relabelled", "redrawn", "moved", "regrouped")
    lists: dict[str, Sequence[Change]] = {kind: getattr(found, kind) for kind in kinds}
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
    by: Actor = COMMAND_LINE,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Put a tag on a version, take it off, or list all tags with their history."""
    with open_library(config, store=store, records=records, blobs=blobs) as datasets:
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
    draft: Annotated[bool, typer.Option("--draft", help="The draft instead of a version.")] = False,
    form: Annotated[str, typer.Option("--format", help="csv, lst, coco, yolo, voc …")] = "csv",
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a version, or the draft, as files that other tools, and `dataset import`, read."""
    from lineside.datasets.writers import write_source

    if draft and which:
        raise InvalidError(
            f"both the draft and version {which}", where="--draft", fix="Name one of them."
        )
    with open_library(config, store=store, records=records, blobs=blobs) as datasets:
        version = None if draft else datasets.find(name, which)
        samples = version.parted if version else datasets.draft(name).samples
        good = datasets.purpose(name)[1]
        written = write_source(samples, files=datasets.read_file, to=to, format=form, good=good)
    for line in written.notes:
        say(f"left out {line.where}: {line.reason}")
    number = version.number if version else 0
    show(
        {
            "dataset": name, "version": number, "samples": written.samples, "to": str(to),
            "skipped": written.notes,
        },
        as_json=as_json,
        text=lambda figures: f"{figures['samples']} pictures of {name}/{number or 'draft'} in {to}",
    )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "dataset", "Labelled pictures.", {
        "import": import_source, "add": add, "list": list_datasets, "show": show_dataset,
        "split": split, "freeze": freeze, "leaks": leaks, "diff": diff, "tag": tag,
        "report": report, "export": export, **DATASET,
    })  # fmt: skip


def import_source(
    source: Annotated[
        str, typer.Argument(help="Folder, list or table, archive, or s3://bucket/prefix.")
    ],
    *,
    into: Annotated[str, typer.Option(help="The dataset to add to.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    labels: Annotated[str, typer.Option(help="Label names in column order, by comma.")] = "",
    form: Annotated[
        str, typer.Option("--format", help="auto, or a form of docs/reference/formats.md.")
    ] = "auto",
    images: Annotated[Path | None, typer.Option(help="Where a list's pictures are.")] = None,
    group: Annotated[
        str, typer.Option(help="How pictures are grouped: docs/reference/datasets.md.")
    ] = "",
    ids: Annotated[Path | None, typer.Option(help="Only these: one id or name a line.")] = None,
    sample: Annotated[int, typer.Option(help="Only so many, drawn by the seed; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    every: Annotated[int, typer.Option(help="Of a video, each so many frames.", min=1)] = 1,
    by: By = COMMAND_LINE,
    as_json: JsonFlag = False,
) -> None:
    """Import labelled pictures; every skipped line is reported."""
    from lineside.datasets import load_source
    from lineside.datasets.samples import checked_import
    from lineside.datasets.sources import Choice, Reading, read_ids

    choice = Choice(ids=None if ids is None else read_ids(ids), most=sample, seed=seed)
    place = place_of(config=config, store=store, records=records, blobs=blobs, fresh=True)
    with (
        tempfile.TemporaryDirectory(prefix="lineside-import-") as fetched,
        library(place) as (datasets, _),
    ):
        reading = Reading(choice=choice, every=every, keep=Path(fetched))
        found = load_source(
            source,
            labels=_names_in(labels),
            format=form,
            images=images,
            group=group,
            reading=reading,
        )
        found = checked_import(found, datasets.purpose(into))
        if not found.samples:
            for line in found.skipped:
                say(f"skipped {line.where}: {line.reason}")
            raise InvalidError(
                "no picture of it can be imported",
                where=source,
                fix="Replace what cannot be read; docs/reference/formats.md says what can.",
            )
        pictures = ((sample, found.read(sample)) for sample in found.samples)
        added = datasets.add(into, pictures, by=by, files=found.read_file)
    skipped = (*found.skipped, *added.reported)
    result = {
        "dataset": into, "format": found.format, "samples": added.new + added.same,
        "skipped": skipped,
    }  # fmt: skip
    show(
        result,
        as_json=as_json,
        text=lambda _: "\n".join(
            [f"{into}: {added.new} new pictures, {added.same} known, {len(skipped)} notes"]
            + [f"  {line.where}: {line.reason}" for line in skipped]
        ),
    )


def add(
    name: Name,
    *,
    label: Annotated[list[str], typer.Option(help="A label that holds; repeatable.")],
    frames: Annotated[str, typer.Option(help="FROM..TO, ids of the first and last frame.")] = "",
    camera: Annotated[
        str, typer.Option(help="Instead: what this camera shows, --for so long.")
    ] = "",
    seconds: Annotated[float, typer.Option("--for", min=0.1, help="With --camera.")] = 20.0,
    config: ConfigOption = None,
    store: StoreOption = None,
    records: RecordsOption = "",
    blobs: BlobsOption = "",
    by: By = COMMAND_LINE,
    as_json: JsonFlag = False,
) -> None:
    """Teach from the live line: stored frames, or those of the next seconds, with their labels."""
    from lineside.datasets.samples import judged

    if bool(frames) == bool(camera):
        raise InvalidError(
            "frames and a camera" if camera else "no frames named", where="--frames --camera",
            fix="Give --frames FROM..TO, or --camera NAME with --for SECONDS.",
        )  # fmt: skip
    place = place_of(config=config, store=store, records=records, blobs=blobs)
    with library(place) as (datasets, kept):
        rows = _coming(kept, camera, seconds) if camera else _span(kept, frames)
        if not rows:
            raise NotFoundError(
                f"no frame of {camera} came within {seconds:g} s", where="--camera",
                fix="Look at the page Lines whether its images arrive.",
            )  # fmt: skip
        names = _names(place, rows[0].camera) or tuple(label)
        added = datasets.add_frames(name, rows, label, by=by, known=judged(label, names))
    show(
        {"dataset": name, "added": added.new, "same": added.same, "skipped": added.reported},
        as_json=as_json,
        text=lambda _: f"{name}: {added.new} frames added, {added.same} were there",
    )


def _span(records: "Records", frames: str) -> "list[FrameRow]":
    """Return the stored frames FROM..TO, both included."""
    from lineside.core import FrameId

    first, dots, last = frames.partition("..")
    if not dots:
        raise InvalidError(f"{frames!r} is no span", where="--frames", fix="Write FROM..TO.")
    ends = [records.frames.get(FrameId(end)) for end in (first, last)]
    times = [end.captured_at for end in ends]
    return records.frames.page(
        camera=ends[0].camera, since=min(times), until=max(times) + timedelta(milliseconds=1),
        limit=100_000,
    )  # fmt: skip


def _coming(records: "Records", camera: str, seconds: float) -> "list[FrameRow]":
    """Return the frames that a camera captures in the next seconds."""
    since = SystemClock().now()
    say(f"what {camera} shows in the next {seconds:g} s is taken")
    with stop_on_signal() as stop:
        stop.wait(seconds)
    return records.frames.page(camera=camera, since=since, limit=100_000)


def _names(place: Place, camera: str) -> tuple[str, ...]:
    """Return the labels of this camera's inspection; none without a plant file."""
    from lineside.datasets import label_names

    found = [one for one in place.inspections if one.camera == camera]
    return tuple(name for one in found for name in label_names(one))
