"""``lineside recordio``: list files and record files as other tools write and read them."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lineside.cli.output import JsonFlag, add_commands, say, show
from lineside.core import InvalidError

if TYPE_CHECKING:
    from lineside.datasets.recordio import CheckedRecords, ImageRecord, Record

Prefix = Annotated[Path, typer.Argument(help="What the lists' names begin with, with its folder.")]
Root = Annotated[Path, typer.Argument(help="The folder that pictures are relative to.")]
File = Annotated[Path, typer.Argument(help="The .rec file.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, "recordio", "List files and record files.", {
        "list": make, "pack": pack, "read": read, "check": check,
    })  # fmt: skip


def make(
    prefix: Prefix,
    root: Root,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Each sub-folder is a class.")
    ] = False,
    train_ratio: Annotated[float, typer.Option(help="Share of the training list.")] = 1.0,
    test_ratio: Annotated[float, typer.Option(help="Share of the test list.")] = 0.0,
    chunks: Annotated[int, typer.Option(help="Lists of each part.")] = 1,
    shuffle: Annotated[bool, typer.Option(help="Shuffle before parting (seed 100).")] = True,
    plain: Annotated[bool, typer.Option("--plain", help="Write 4 instead of 4.000000.")] = False,
    classes: Annotated[Path | None, typer.Option(help="Class names by number, one a line.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make list files of a folder; class numbers are kept in PREFIX_classes.txt."""
    from lineside.datasets.packing import ListSettings, make_lists
    from lineside.datasets.recordio import read_classes

    plan = ListSettings(
        recursive=recursive, train=train_ratio, test=test_ratio, chunks=chunks, shuffle=shuffle,
        form="plain" if plain else "decimals",
    )  # fmt: skip
    fixed = read_classes(classes) if classes is not None else ()
    made = make_lists(prefix, root, plan=plan, classes=fixed)
    if made.left_out:
        say(f"warning: {made.left_out} pictures stand in no list; leave a share for validation")
    result = {
        "records": sum(made.files.values()),
        "left_out": made.left_out,
        "labels": {name: number for number, name in enumerate(made.classes)},
        "files": made.files,
    }
    lines = [f"{name} {number}" for number, name in enumerate(made.classes)]
    lines += [f"{name}: {count} pictures" for name, count in made.files.items()]
    show(result, as_json=as_json, text=lambda _: "\n".join(lines))


def pack(
    prefix: Prefix,
    root: Root,
    resize: Annotated[int, typer.Option(help="Length of the shorter side; 0 as it is.")] = 0,
    center_crop: Annotated[
        bool, typer.Option("--center-crop", help="Cut to a square first.")
    ] = False,
    pass_through: Annotated[
        bool, typer.Option("--pass-through", help="Pack the files' own bytes.")
    ] = False,
    quality: Annotated[int, typer.Option(help="JPEG 1-100 (95), PNG 1-9 (3).")] = 0,
    encoding: Annotated[str, typer.Option(help=".jpg or .png.")] = ".jpg",
    color: Annotated[int, typer.Option(help="1 colour, 0 grey, -1 as stored.")] = 1,
    pack_label: Annotated[
        bool, typer.Option("--pack-label", help="Pack all labels, not the first alone.")
    ] = False,
    num_thread: Annotated[int, typer.Option(help="Threads that prepare pictures.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Pack every list of a prefix into a record file and its index."""
    from lineside.datasets.packing import PackSettings, pack_lists

    plan = PackSettings(
        resize=resize, center_crop=center_crop, pass_through=pass_through, quality=quality,
        encoding=encoding, color=color, pack_label=pack_label, threads=num_thread,
    )  # fmt: skip
    packed = pack_lists(prefix, root, plan=plan)
    for one in packed:
        for line in (*one.warnings, *(f"{note.where}: {note.reason}" for note in one.skipped)):
            say(f"warning: {one.path}: {line}")
    result = {
        "records": sum(one.records for one in packed),
        "labels": _summed([one.labels for one in packed]),
        "files": packed,
    }
    show(
        result,
        as_json=as_json,
        text=lambda _: "\n".join(f"{one.path}: {one.records} records" for one in packed),
    )


def _summed(counts: list[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def read(
    file: File,
    number: Annotated[int | None, typer.Option("--id", help="Only the record of this id.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the pictures.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the records of a file, and write their pictures where asked."""
    from lineside.datasets.recordio import adjacent_classes, iter_records

    names = adjacent_classes(file)
    rows: list[dict[str, object]] = []
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    for record, image in iter_records(file, only=number):
        if out is not None:
            _write(out, record, image)
        rows.append(_row(record, image, names=names))
    show({"records": rows}, as_json=as_json, text=lambda _: "\n".join(map(_line, rows)))


def _write(out: Path, record: "Record", image: "ImageRecord | None") -> None:
    from lineside.datasets.recordio import picture_suffix

    if image is None:
        (out / f"byte-{record.offset}.bin").write_bytes(record.payload)
    else:
        name = f"{image.id}{picture_suffix(image.picture)}"
        (out / name).write_bytes(image.picture)


def _row(
    record: "Record", image: "ImageRecord | None", *, names: tuple[str, ...]
) -> dict[str, object]:
    from lineside.datasets.recordio import label_words

    told = {"offset": record.offset, "payload_bytes": len(record.payload)}
    if image is None:
        return {"id": None, "labels": (), "names": (), "bytes": 0, **told}
    words = label_words(image, names=names)
    size = len(image.picture)
    return {"id": image.id, "labels": image.labels, "names": words, "bytes": size, **told}


def _line(row: dict[str, object]) -> str:
    if row["id"] is None:
        return f"byte {row['offset']}: {row['payload_bytes']} bytes, no picture"
    return f"byte {row['offset']}: id {row['id']}, labels {row['labels']}, {row['bytes']} bytes"


def check(
    file: File,
    write_index: Annotated[
        bool, typer.Option("--write-index", help="Write the .idx from what the file holds.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Read a record file through; exit code 2 when it or its index is damaged."""
    from lineside.datasets.recordio import check_records, index_again

    if write_index:
        index_again(file)
    found = check_records(file)
    show(found, as_json=as_json, text=lambda one: _sentences(file, one))
    if found.damage or found.faults:
        raise typer.Exit(InvalidError.exit_code)


def _sentences(file: Path, found: "CheckedRecords") -> str:
    head = f"{file}: {found.records} records, {found.pictures} of them pictures"
    labels = [f"  {name}: {count}" for name, count in found.labels.items()]
    damage = [f"  byte {one.offset}: {one.reason}" for one in found.damage]
    return "\n".join([head, *labels, *damage, *(f"  index: {fault}" for fault in found.faults)])
