"""Formats that say one thing of a whole picture: CSV, class folders, lists, records, masks."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lineside.core import rfc3339
from lineside.datasets.formats import BOXES, OWN_COLUMNS, POINTS, mask_png, write_lst
from lineside.datasets.packing import replacing
from lineside.datasets.recordio import ImageRecord, framed, pack_image, write_index
from lineside.datasets.samples import Marked
from lineside.datasets.writers.output import Desk, Outgoing, by_part, label_names
from lineside.vision import GOOD_LABELS

Stream = Iterable[tuple[Outgoing, bytes]]


def write_csv(stream: Stream, desk: Desk) -> int:
    """``labels.csv``, ``boxes.csv``, ``points.csv``; pictures, masks and templates in folders."""
    items = [_kept(item, encoded, desk=desk, folder="images") for item, encoded in stream]
    for item in items:
        _put_beside(item, desk)
    judged = _judged_columns(items)
    facts = _fact_columns(items, judged=judged)
    rows = (_csv_row(item, judged=judged, facts=facts) for item in items)
    desk.put("labels.csv", _table([*OWN_COLUMNS, *judged, *facts], rows))
    _write_marks(items, desk)
    return len(items)


def _kept(item: Outgoing, encoded: bytes, *, desk: Desk, folder: str) -> Outgoing:
    desk.put(f"{folder}/{item.file}", encoded)
    return item


def _put_beside(item: Outgoing, desk: Desk) -> None:
    sample = item.sample
    if sample.mask_digest is not None:
        desk.put(_mask_name(item), desk.files(sample.mask_digest))
    if sample.template_digest is not None:
        desk.put(_template_name(item), desk.files(sample.template_digest))


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


def _write_marks(items: Sequence[Outgoing], desk: Desk) -> None:
    """Boxes and points. With points, each box has its own: points say which objects there are."""
    marks = [(f"images/{item.file}", mark) for item in items for mark in item.sample.marked or ()]
    if all(item.sample.marked is None for item in items):
        return
    boxes = [[file, *_numbers(_box(mark)), mark.label] for file, mark in marks if not mark.is_point]
    desk.put(BOXES, _table(["file", "x1", "y1", "x2", "y2", "type"], boxes))
    if any(mark.is_point for _, mark in marks):
        points = [[file, *_numbers(mark.centre_px), mark.label] for file, mark in marks]
        desk.put(POINTS, _table(["file", "x", "y", "type"], points))
    bare = sum(item.sample.marked is None for item in items)
    desk.say_count(bare, "nobody marked objects on them; in these tables they show none")


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


def write_folders(stream: Stream, desk: Desk) -> int:
    """``<part>/<label>/picture``, or ``<label>/picture`` where nothing declares a part."""
    kept = 0
    for item, encoded in stream:
        labels = item.sample.labels
        if len(labels) != 1:
            desk.say(item, f"{len(labels)} labels; a class folder has one")
            continue
        label = labels[0].replace("/", "-")
        desk.put("/".join(word for word in (item.part, label, item.file) if word), encoded)
        kept += 1
    return kept


def write_lists(stream: Stream, desk: Desk) -> int:
    """``images/``, a list a part, and ``classes.txt`` with the names by number or column."""
    items = [_kept(item, encoded, desk=desk, folder="images") for item, encoded in stream]
    names = label_names(items)
    desk.put("classes.txt", "".join(f"{name}\n" for name in names).encode())
    number = {item.file: place for place, item in enumerate(items)}
    for part, members in by_part(items).items():
        rows = [
            (number[item.file], values, f"images/{item.file}")
            for item, values in _numbered(members, names=names, desk=desk, whole=items)
        ]
        desk.put(f"{part or 'all'}.lst", write_lst(rows))
    return len(items)


def write_records(stream: Stream, desk: Desk) -> int:
    """A record file and its index a part, pictures as they are, and ``classes.txt``."""
    pictures = [item for item, _ in stream]
    names = label_names(pictures)
    desk.put("classes.txt", "".join(f"{name}\n" for name in names).encode())
    number = {item.file: place for place, item in enumerate(pictures)}
    for part, members in by_part(pictures).items():
        index: list[tuple[int, int]] = []
        offset = 0
        path = desk.folder / f"{part or 'all'}.rec"
        with replacing(path) as file:
            for item, values in _numbered(members, names=names, desk=desk, whole=pictures):
                record = ImageRecord(
                    id=number[item.file],
                    labels=values,
                    picture=desk.files(item.sample.digest),
                    as_vector=len(values) > 1,
                )
                written = framed(pack_image(record))
                file.write(written)
                index.append((record.id, offset))
                offset += len(written)
        desk.put(f"{part or 'all'}.idx", write_index(index))
    return len(pictures)


def _numbered(
    items: Sequence[Outgoing],
    *,
    names: Sequence[str],
    desk: Desk,
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
    desk.say_count(unmarked, "have boxes or masks, which lists and records cannot hold")


def write_masks(stream: Stream, desk: Desk) -> int:
    """``images/`` and ``masks/`` of one name, the mask all black where there is no defect."""
    kept = 0
    for item, encoded in stream:
        sample = item.sample
        if sample.mask_digest is None and not set(map(str.lower, sample.labels)) <= GOOD_LABELS:
            desk.say(item, "a defect that nobody drew; a black mask would call it good")
            continue
        if sample.mask_digest is not None:
            mask = desk.files(sample.mask_digest)
        else:
            mask = mask_png(np.zeros((item.height_px, item.width_px), np.bool_))
        head = f"{item.part}/" if item.part else ""
        desk.put(f"{head}images/{item.file}", encoded)
        desk.put(f"{head}masks/{item.stem}.png", mask)
        kept += 1
    return kept
