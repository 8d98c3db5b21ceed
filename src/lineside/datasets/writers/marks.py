"""Formats that say where objects are: COCO, YOLO and Pascal VOC."""

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import msgspec
import numpy as np

from lineside.datasets.formats import Mask, box_of, compressed, marks_of, mask_png, runs_of
from lineside.datasets.samples import Marked
from lineside.datasets.writers.output import (
    Outgoing,
    Output,
    by_part,
    label_names,
    marked_names,
    note_unmarked,
)
from lineside.vision import decode_picture

Stream = Iterable[tuple[Outgoing, bytes]]
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
        for told in _objects(item, output=output):
            label = str(told.pop("label"))
            place = {"id": len(annotations) + 1, "image_id": number, "category_id": numbers[label]}
            annotations.append({**place, **told})
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
    told: list[dict[str, object]] = []
    for mark in item.sample.marked or ():
        inner = None if mask is None or mark.is_point else _inside(mask, mark)
        told.append(_object(mark, inner))
    left = mask if mask is not None and not told else _outside(mask, item.sample.marked or ())
    if left is not None and left.any():
        labels = item.sample.labels
        if not labels:
            output.say(item, "a mask without a label, which this format cannot hold")
            return told
        x0, y0, x1, y1 = box_of(left) or (0, 0, 1, 1)
        whole = Marked(label=labels[0], x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)
        told.append({**_object(whole, left), "iscrowd": int(bool(told))})
    return told


def _object(mark: Marked, mask: Mask | None) -> dict[str, object]:
    width, height = mark.x1_px - mark.x0_px, mark.y1_px - mark.y0_px
    told: dict[str, object] = {
        "label": mark.label,
        "bbox": [mark.x0_px, mark.y0_px, width, height],
        "area": width * height,
        "iscrowd": 0,
    }
    if mark.is_point:
        told |= {"keypoints": [mark.x0_px, mark.y0_px, 2], "num_keypoints": 1}
    if mask is not None and mask.any():
        told["segmentation"] = {"size": list(mask.shape), "counts": compressed(runs_of(mask))}
        told["area"] = int(mask.sum())
    return told


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
    told = any(item.sample.marked or item.sample.mask_digest is not None for item in items)
    return len(items) if told else 0


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
