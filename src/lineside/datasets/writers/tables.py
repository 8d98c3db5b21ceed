"""Formats that say one thing of a whole picture: CSV, class folders, lists, records, masks."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lineside.core import rfc3339
from lineside.core.files import replacing_durably
from lineside.datasets.formats import BOXES, OWN_COLUMNS, POINTS, mask_png, write_lst
from lineside.datasets.recordio import ImageRecord, framed, pack_image, write_index
from lineside.datasets.samples import Marked
from lineside.datasets.writers.output import Outgoing, Output, by_part, label_names
from lineside.vision.decide import GOOD_LABELS

Stream = Iterable[tuple[Outgoing, bytes]]


def write_csv(stream: Stream, output: Output) -> int:
    """``labels.csv``, ``boxes.csv``, ``points.csv``; pictures, masks and templates in folders."""
    items = [_written(item, encoded, output=output, folder="images") for item, encoded in stream]
    for item in items:
        _write_masks_of(item, output)
    judged = _judged_columns(items)
    facts = _fact_columns(items, judged=judged)
    rows = (_csv_row(item, judged=judged, facts=facts) for item in items)
    output.put("labels.csv", _table([*OWN_COLUMNS, *judged, *facts], rows))
    _write_marks(items, output)
    return len(items)


def _written(item: Outgoing, encoded: bytes, *, output: Output, folder: str) -> Outgoing:
    output.put(f"{folder}/{item.file}", encoded)
    return item


def _write_masks_of(item: Outgoing, output: Output) -> None:
    sample = item.sample
    if sample.mask_digest is not None:
        output.put(_mask_name(item), output.files(sample.mask_digest))
    if sample.template_digest is not None:
        output.put(_template_name(item), output.files(sample.template_digest))


def _mask_name(item: Outgoing) -> str:
    return f"masks/{item.stem}.png" if item.sample.mask_digest is not None else ""


def _template_name(item: Outgoing) -> str:
    return f"templates/{item.file}" if item.sample.template_digest is not None else ""


def _judged_columns(items: Sequence[Outgoing]) -> tuple[str, ...]:
    """Columns of 0 and 1 where some picture leaves open what others judge."""
    names = {name for item in items for name in item.sample.known}
    denied = any(set(item.sample.known) > set(item.sample.labels) for item in items)
    open_ = any(set(item.sample.known) < names for item in items)
    clear = not names & set(OWN_COLUMNS)
    return tuple(sorted(names)) if denied and open_ and clear else ()


def _fact_columns(items: Sequence[Outgoing], *, judged: Sequence[str]) -> tuple[str, ...]:
    names = {name for item in items for name in item.sample.facts}
    return tuple(sorted(names - set(OWN_COLUMNS) - set(judged)))


def _csv_row(item: Outgoing, *, judged: Sequence[str], facts: Sequence[str]) -> list[str]:
    sample = item.sample
    taken = rfc3339(sample.captured_at) if sample.captured_at is not None else ""
    told = {
        "file": f"images/{item.file}",
        "label": ";".join(sample.labels),
        "mask": _mask_name(item),
        "count": "" if sample.count is None else str(sample.count),
        "group": sample.group,
        "split": sample.split.value,
        "captured_at": taken,
        "template": _template_name(item),
    }
    says = {name: str(int(name in sample.labels)) for name in judged if name in sample.known}
    return [
        *(told[name] for name in OWN_COLUMNS),
        *(says.get(name, "") for name in judged),
        *(sample.facts.get(name, "") for name in facts),
    ]


def _write_marks(items: Sequence[Outgoing], output: Output) -> None:
    """Boxes and points. With points, each box has its own: points say which objects there are."""
    marks = [(f"images/{item.file}", mark) for item in items for mark in item.sample.marked or ()]
    if all(item.sample.marked is None for item in items):
        return
    boxes = [[file, *_numbers(_box(mark)), mark.label] for file, mark in marks if not mark.is_point]
    output.put(BOXES, _table(["file", "x1", "y1", "x2", "y2", "type"], boxes))
    if any(mark.is_point for _, mark in marks):
        points = [[file, *_numbers(mark.centre_px), mark.label] for file, mark in marks]
        output.put(POINTS, _table(["file", "x", "y", "type"], points))
    bare = sum(item.sample.marked is None for item in items)
    output.say_count(bare, "nobody marked objects on them; in these tables they show none")


def _box(mark: Marked) -> tuple[float, ...]:
    return mark.x0_px, mark.y0_px, mark.x1_px, mark.y1_px


def _numbers(values: Iterable[float]) -> list[str]:
    return [repr(float(value)) if value != int(value) else str(int(value)) for value in values]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def write_folders(stream: Stream, output: Output) -> int:
    """``<part>/<label>/picture``, or ``<label>/picture`` where nothing declares a part."""
    kept = 0
    for item, encoded in stream:
        labels = item.sample.labels
        if len(labels) != 1:
            output.say(item, f"{len(labels)} labels; a class folder has one")
            continue
        label = labels[0].replace("/", "-")
        output.put("/".join(word for word in (item.part, label, item.file) if word), encoded)
        kept += 1
    return kept


def write_lists(stream: Stream, output: Output) -> int:
    """``images/``, a list a part, and ``classes.txt`` with the names by number or column."""
    items = [_written(item, encoded, output=output, folder="images") for item, encoded in stream]
    names = label_names(items)
    output.put("classes.txt", "".join(f"{name}\n" for name in names).encode())
    number = {item.file: place for place, item in enumerate(items)}
    for part, members in by_part(items).items():
        rows = [
            (number[item.file], values, f"images/{item.file}")
            for item, values in _numbered(members, names=names, output=output, whole=items)
        ]
        output.put(f"{part or 'all'}.lst", write_lst(rows))
    return len(items)


def write_records(stream: Stream, output: Output) -> int:
    """A record file and its index a part, pictures as they are, and ``classes.txt``."""
    pictures = [item for item, _ in stream]
    names = label_names(pictures)
    output.put("classes.txt", "".join(f"{name}\n" for name in names).encode())
    number = {item.file: place for place, item in enumerate(pictures)}
    for part, members in by_part(pictures).items():
        index: list[tuple[int, int]] = []
        offset = 0
        path = output.folder / f"{part or 'all'}.rec"
        with replacing_durably(path) as file:
            for item, values in _numbered(members, names=names, output=output, whole=pictures):
                record = ImageRecord(
                    id=number[item.file],
                    labels=values,
                    picture=output.files(item.sample.digest),
                    as_vector=len(values) > 1,
                )
                written = framed(pack_image(record))
                file.write(written)
                index.append((record.id, offset))
                offset += len(written)
        output.put(f"{part or 'all'}.idx", write_index(index))
    return len(pictures)


def _numbered(
    items: Sequence[Outgoing],
    *,
    names: Sequence[str],
    output: Output,
    whole: Sequence[Outgoing],
) -> Iterator[tuple[Outgoing, tuple[float, ...]]]:
    """Each picture with its class number, or with a column of 0 or 1 for each name."""
    one_each = all(len(item.sample.labels) == 1 for item in whole) and len(names) > 1
    unmarked = 0
    for item in items:
        unmarked += bool(item.sample.marked or item.sample.mask_digest)
        if one_each:
            yield item, (float(names.index(item.sample.labels[0])),)
        else:
            held = set(item.sample.labels)
            yield item, tuple(float(name in held) for name in names) or (0.0,)
    output.say_count(unmarked, "have boxes or masks, which lists and records cannot hold")


def write_masks(stream: Stream, output: Output) -> int:
    """``images/`` and ``masks/`` of one name, the mask all black where there is no defect."""
    kept = 0
    for item, encoded in stream:
        sample = item.sample
        if sample.mask_digest is None and not set(map(str.lower, sample.labels)) <= GOOD_LABELS:
            output.say(item, "a defect that nobody drew; a black mask would call it good")
            continue
        if sample.mask_digest is not None:
            mask = output.files(sample.mask_digest)
        else:
            mask = mask_png(np.zeros((item.height_px, item.width_px), np.bool_))
        head = f"{item.part}/" if item.part else ""
        output.put(f"{head}images/{item.file}", encoded)
        output.put(f"{head}masks/{item.stem}.png", mask)
        kept += 1
    return kept
