"""Writers of labelled pictures for ``write_source``, whose folders ``load_source`` reads again.

Each writer takes pictures that have their names already (``Outgoing``) and writes what its format
has for them; what it has no words for is noted, never silently left out.

Formats that say one thing of a whole picture: CSV, class folders, lists, records, masks.

The output of a writer: the folder, the images' new names, and the notes.

Formats that say where objects are: COCO, YOLO and Pascal VOC.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import msgspec
import numpy as np

from lineside.core import ConflictError, Digest, InvalidError, NotFoundError, rfc3339
from lineside.core.files import replacing_durably, replacing_folder
from lineside.datasets.formats import (
    BOXES,
    KNOWN_COLUMN,
    OWN_COLUMNS,
    POINTS,
    Mask,
    box_of,
    compressed,
    marks_of,
    mask_png,
    runs_of,
    write_lst,
)
from lineside.datasets.recordio import ImageRecord, framed, pack_image, picture_suffix, write_index
from lineside.datasets.samples import Marked, Part, Sample, Skipped, shows_defect
from lineside.vision import decode_picture, picture_size

_KEPT = frozenset("-_. ,()+@")
_LONGEST_NAME = 120
PART_WORDS = {Part.OPEN: "", Part.TRAIN: "train", Part.VALID: "val", Part.TEST: "test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A picture on its way out.

    Attributes:
        file: its new name, without folder; no two share their stem.
    """

    sample: Sample
    file: str
    width_px: int
    height_px: int

    @property
    def stem(self) -> str:
        """The file's name without its suffix."""
        return PurePosixPath(self.file).stem

    @property
    def part(self) -> str:
        """``train``, ``val``, ``test`` or ``""``."""
        return PART_WORDS[self.sample.split]


@dataclass(slots=True, kw_only=True)
class Output:
    """The folder that is written, where bytes come from, and which labels mean a good part."""

    folder: Path
    files: Callable[[Digest], bytes]
    notes: list[Skipped] = field(default_factory=list)
    good: Collection[str] = ()

    def put(self, name: str, data: bytes) -> None:
        """Write a file below the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def say(self, item: Outgoing, reason: str) -> None:
        """Note that a picture, or something of it, was left out."""
        self.notes.append(Skipped(where=item.sample.name, reason=reason))

    def say_count(self, count: int, reason: str) -> None:
        """Note something that befell so many pictures."""
        if count:
            self.notes.append(Skipped(where=f"{count} pictures", reason=reason))


def outgoing(
    samples: Iterable[Sample], *, files: Callable[[Digest], bytes]
) -> Iterator[tuple[Outgoing, bytes]]:
    """Each picture with its new name and its bytes, in the order given."""
    stems: Counter[str] = Counter()
    for sample in samples:
        encoded = files(sample.digest)
        stem = _plain(PurePosixPath(sample.name).stem) or "picture"
        if stems[stem.lower()]:
            stem = f"{stem}-{sample.digest.removeprefix('sha256:')[:12]}"
        stems[stem.lower()] += 1
        width, height = picture_size(encoded)
        file = stem + picture_suffix(encoded)
        yield Outgoing(sample=sample, file=file, width_px=width, height_px=height), encoded


def _plain(stem: str) -> str:
    """A name that every system and every list file takes."""
    kept = "".join(letter if letter.isalnum() or letter in _KEPT else "_" for letter in stem)
    return kept.strip(" .")[:_LONGEST_NAME]


def label_names(items: Sequence[Outgoing]) -> tuple[str, ...]:
    """Every label that holds on some picture, sorted."""
    return tuple(sorted({label for item in items for label in item.sample.labels}))


def marked_names(items: Sequence[Outgoing]) -> tuple[str, ...]:
    """Every name that an object bears, sorted."""
    return tuple(sorted({mark.label for item in items for mark in item.sample.marked or ()}))


def note_unmarked(items: Sequence[Outgoing], output: Output) -> None:
    """Note what a format that holds objects alone leaves out."""
    bare = sum(item.sample.marked is None for item in items)
    output.say_count(bare, "nobody marked objects on them; in this format they show none")
    lost = sum(
        not set(item.sample.labels) <= {mark.label for mark in item.sample.marked or ()}
        for item in items
    )
    output.say_count(lost, "have labels that no object on them bears; this format holds objects")
    counted = sum(
        item.sample.count is not None and item.sample.count != len(item.sample.marked or ())
        for item in items
    )
    output.say_count(counted, "have another count than objects marked; this format holds objects")


def by_part(items: Sequence[Outgoing]) -> dict[str, list[Outgoing]]:
    """The pictures of each part, by its word."""
    parts: dict[str, list[Outgoing]] = {}
    for item in items:
        parts.setdefault(item.part, []).append(item)
    return parts


Stream = Iterable[tuple[Outgoing, bytes]]


def write_csv(stream: Stream, output: Output) -> int:
    """``labels.csv``, ``boxes.csv``, ``points.csv``; pictures, masks and templates in folders."""
    items = [_written(item, encoded, output=output, folder="images") for item, encoded in stream]
    for item in items:
        _write_masks_of(item, output)
    is_known = any(item.sample.known != item.sample.labels for item in items)
    own = (*OWN_COLUMNS, KNOWN_COLUMN) if is_known else OWN_COLUMNS
    judged = _judged_columns(items)
    facts = _fact_columns(items, others=(*own, *judged))
    rows = (_csv_row(item, own=own, judged=judged, facts=facts) for item in items)
    output.put("labels.csv", _table([*own, *judged, *facts], rows))
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
    clear = not names & {*OWN_COLUMNS, KNOWN_COLUMN}
    return tuple(sorted(names)) if denied and open_ and clear else ()


def _fact_columns(items: Sequence[Outgoing], *, others: Sequence[str]) -> tuple[str, ...]:
    names = {name for item in items for name in item.sample.facts}
    return tuple(sorted(names - {*OWN_COLUMNS, *others}))


def _csv_row(
    item: Outgoing, *, own: Sequence[str], judged: Sequence[str], facts: Sequence[str]
) -> list[str]:
    sample = item.sample
    captured = rfc3339(sample.captured_at) if sample.captured_at is not None else ""
    entries = {
        "file": f"images/{item.file}",
        "label": ";".join(sample.labels),
        "mask": _mask_name(item),
        "count": "" if sample.count is None else str(sample.count),
        "group": sample.group,
        "split": sample.split.value,
        "captured_at": captured,
        "template": _template_name(item),
        KNOWN_COLUMN: ";".join(sample.known),
    }
    says = {name: str(int(name in sample.labels)) for name in judged if name in sample.known}
    return [
        *(entries[name] for name in own),
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
        if sample.mask_digest is None and shows_defect(sample, good=output.good):
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


_MOST_BYTES = 64 * 1024 * 1024


def write_coco(stream: Stream, output: Output) -> int:
    """``images/`` and ``annotations/instances_<part>.json``.

    The mask of a picture is parted by its boxes and written as run lengths; what lies in no box is
    one object of the picture's label where there are no boxes at all, a crowd otherwise. A point
    is a key point.
    """
    items = []
    for item, encoded in stream:
        output.put(f"images/{item.file}", encoded)
        items.append(item)
    drawn = [item for item in items if item.sample.mask_digest is not None]
    names = tuple(sorted({*marked_names(items), *label_names(drawn)}))
    for part, members in by_part(items).items():
        document = _coco(members, names=names, output=output)
        name = f"annotations/instances_{part or 'all'}.json"
        output.put(name, msgspec.json.format(msgspec.json.encode(document), indent=1))
    note_unmarked([item for item in items if item.sample.mask_digest is None], output)
    return len(items) if names else 0


def _coco(
    items: Sequence[Outgoing], *, names: Sequence[str], output: Output
) -> dict[str, list[dict[str, object]]]:
    numbers = {name: place for place, name in enumerate(names, start=1)}
    annotations: list[dict[str, object]] = []
    for number, item in enumerate(items, start=1):
        for entries in _objects(item, output=output):
            label = str(entries.pop("label"))
            place = {"id": len(annotations) + 1, "image_id": number, "category_id": numbers[label]}
            annotations.append({**place, **entries})
    return {
        "images": [
            {"id": n, "file_name": one.file, "width": one.width_px, "height": one.height_px}
            for n, one in enumerate(items, start=1)
        ],
        "categories": [{"id": place, "name": name} for name, place in numbers.items()],
        "annotations": annotations,
    }


def _objects(item: Outgoing, *, output: Output) -> list[dict[str, object]]:
    mask = _mask(item, output)
    entries: list[dict[str, object]] = []
    for mark in item.sample.marked or ():
        inner = None if mask is None or mark.is_point else _inside(mask, mark)
        entries.append(_object(mark, inner))
    left = mask if mask is not None and not entries else _outside(mask, item.sample.marked or ())
    if left is not None and left.any():
        labels = item.sample.labels
        if not labels:
            output.say(item, "a mask without a label, which this format cannot hold")
            return entries
        if labels[1:]:
            output.say(
                item, f"which of {len(labels)} labels its mask shows; written as {labels[0]}"
            )
        x0, y0, x1, y1 = box_of(left) or (0, 0, 1, 1)
        whole = Marked(label=labels[0], x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)
        entries.append({**_object(whole, left), "iscrowd": int(bool(entries))})
    return entries


def _object(mark: Marked, mask: Mask | None) -> dict[str, object]:
    width, height = mark.x1_px - mark.x0_px, mark.y1_px - mark.y0_px
    entries: dict[str, object] = {
        "label": mark.label,
        "bbox": [mark.x0_px, mark.y0_px, width, height],
        "area": width * height,
        "iscrowd": 0,
    }
    if mark.is_point:
        entries |= {"keypoints": [mark.x0_px, mark.y0_px, 2], "num_keypoints": 1}
    if mask is not None and mask.any():
        entries["segmentation"] = {"size": list(mask.shape), "counts": compressed(runs_of(mask))}
        entries["area"] = int(mask.sum())
    return entries


def _mask(item: Outgoing, output: Output) -> Mask | None:
    if item.sample.mask_digest is None:
        return None
    encoded = output.files(item.sample.mask_digest)
    return marks_of(decode_picture(encoded, max_bytes=_MOST_BYTES))


def _window(mask: Mask, mark: Marked) -> tuple[slice, slice]:
    height, width = mask.shape
    rows = slice(max(0, int(mark.y0_px)), min(height, int(np.ceil(mark.y1_px))))
    return rows, slice(max(0, int(mark.x0_px)), min(width, int(np.ceil(mark.x1_px))))


def _inside(mask: Mask, mark: Marked) -> Mask:
    kept = np.zeros_like(mask)
    window = _window(mask, mark)
    kept[window] = mask[window]
    return kept


def _outside(mask: Mask | None, marks: Sequence[Marked]) -> Mask | None:
    if mask is None:
        return None
    left = mask.copy()
    for mark in marks:
        if not mark.is_point:
            left[_window(mask, mark)] = False
    return left


def write_yolo(stream: Stream, output: Output) -> int:
    """``images/<part>/``, ``labels/<part>/`` and ``data.yaml``; boxes in shares of the picture."""
    items = []
    for item, encoded in stream:
        output.put(f"images/{item.part or 'train'}/{item.file}", encoded)
        items.append(item)
    names = marked_names(items)
    points = masks = 0
    for item in items:
        marks = item.sample.marked or ()
        lines = [_yolo_line(mark, item, names=names) for mark in marks if not mark.is_point]
        points += any(mark.is_point for mark in marks)
        masks += item.sample.mask_digest is not None
        output.put(f"labels/{item.part or 'train'}/{item.stem}.txt", "".join(lines).encode())
    output.say_count(points, "have points, which have no box; left out")
    output.say_count(masks, "have masks, which these labels cannot hold")
    note_unmarked(items, output)
    if not names:
        return 0
    output.put("data.yaml", _yaml(names, parts=sorted({item.part or "train" for item in items})))
    return len(items)


def _yolo_line(mark: Marked, item: Outgoing, *, names: Sequence[str]) -> str:
    x, y = mark.centre_px
    shares = (
        x / item.width_px,
        y / item.height_px,
        (mark.x1_px - mark.x0_px) / item.width_px,
        (mark.y1_px - mark.y0_px) / item.height_px,
    )
    return f"{names.index(mark.label)} " + " ".join(f"{share:.8f}" for share in shares) + "\n"


def _yaml(names: Sequence[str], *, parts: Sequence[str]) -> bytes:
    # A JSON text is a YAML text too (YAML 1.2, 1.3), so names need no quoting of our own.
    lines = ["path: .", *(f"{part}: images/{part}" for part in parts), "names:"]
    quoted = [msgspec.json.encode(name).decode() for name in names]
    lines += [f"  {place}: {name}" for place, name in enumerate(quoted)]
    return ("\n".join(lines) + "\n").encode()


def write_voc(stream: Stream, output: Output) -> int:
    """``JPEGImages/``, ``Annotations/``, ``ImageSets/Main/``, and ``SegmentationClass/`` masks."""
    items = []
    points = 0
    for item, encoded in stream:
        output.put(f"JPEGImages/{item.file}", encoded)
        output.put(f"Annotations/{item.stem}.xml", _voc(item))
        mask = _mask(item, output)
        if mask is not None:
            output.put(f"SegmentationClass/{item.stem}.png", mask_png(mask, mark=1))
        points += any(mark.is_point for mark in item.sample.marked or ())
        items.append(item)
    for part, members in by_part(items).items():
        if part:
            listed = "".join(f"{item.stem}\n" for item in members)
            output.put(f"ImageSets/Main/{part}.txt", listed.encode())
    output.say_count(points, "have points, which have no box; left out")
    note_unmarked(items, output)
    entries = any(item.sample.marked or item.sample.mask_digest is not None for item in items)
    return len(items) if entries else 0


def _voc(item: Outgoing) -> bytes:
    objects = "".join(_voc_object(m) for m in item.sample.marked or () if not m.is_point)
    size = f"<width>{item.width_px}</width><height>{item.height_px}</height><depth>3</depth>"
    text = (
        f"<annotation>\n  <filename>{escape(item.file)}</filename>\n"
        f"  <size>{size}</size>\n{objects}</annotation>\n"
    )
    return text.encode()


def _voc_object(mark: Marked) -> str:
    corners = zip(
        ("xmin", "ymin", "xmax", "ymax"),
        (mark.x0_px + 1, mark.y0_px + 1, mark.x1_px, mark.y1_px),
        strict=True,
    )
    box = "".join(f"<{word}>{value:.10g}</{word}>" for word, value in corners)
    return f"  <object><name>{escape(mark.label)}</name><bndbox>{box}</bndbox></object>\n"


WRITERS = {
    "csv": write_csv,
    "folders": write_folders,
    "lst": write_lists,
    "records": write_records,
    "masks": write_masks,
    "coco": write_coco,
    "yolo": write_yolo,
    "voc": write_voc,
}

__all__ = [
    "WRITERS",
    "Outgoing",
    "Output",
    "outgoing",
    "write_coco",
    "write_csv",
    "write_folders",
    "write_lists",
    "write_masks",
    "write_records",
    "write_voc",
    "write_yolo",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """The result of writing.

    Attributes:
        samples: pictures written.
        notes: what the format has no words for.
    """

    format: str
    samples: int
    notes: tuple[Skipped, ...] = ()


def write_source(
    samples: Iterable[Sample],
    *,
    files: Callable[[Digest], bytes],
    to: Path,
    format: str,  # noqa: A002  the command line's word
    good: Collection[str] = (),
) -> WriteResult:
    """Write pictures with what is known of them; the folder appears whole or not at all.

    Args:
        samples: their ``split`` is the part they are written to.
        files: gives bytes by digest.
        to: a folder that is not there yet, or empty.
        format: one of ``WRITERS``: csv, folders, lst, records, masks, coco, yolo or voc.
        good: labels that mean a good part; empty: the usual words.

    Raises:
        InvalidError: no such format, a picture that cannot be read, or none that the format has
            words for.
        ConflictError: something is there already.
        NotFoundError: the folder above is not there.
    """
    writer = WRITERS.get(format)
    if writer is None:
        raise InvalidError(
            f"format {format!r} cannot be written", fix=f"Known: {', '.join(sorted(WRITERS))}."
        )
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConflictError(
            "something is there already", where=str(to), fix="Name a folder that is empty or new."
        )
    if not to.absolute().parent.is_dir():
        raise NotFoundError("no such folder", where=str(to.parent), fix="Make it first.")
    with replacing_folder(to) as made:
        output = Output(folder=made, files=files, good=good)
        count = writer(outgoing(samples, files=files), output)
        if not count:
            raise _nothing(output, format, to=to)
    return WriteResult(format=format, samples=count, notes=tuple(output.notes))


def _nothing(output: Output, form: str, *, to: Path) -> InvalidError:
    """That no picture fits the format, and why the first one does not."""
    why = f": {output.notes[0].where}: {output.notes[0].reason}" if output.notes else ""
    return InvalidError(
        f"no picture to write as {form}{why}", where=str(to), fix="Choose another format."
    )
