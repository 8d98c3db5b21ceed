"""YOLO labels: a text file of boxes beside each picture, in shares of its size.

1. ``data.yaml`` (or any ``.yaml`` with ``names``) gives the class names and where each part's
   pictures are: a folder, or a text file that lists them; a ``classes.txt`` or ``obj.names`` of
   one name a line will do. Paths are relative to the yaml's folder, ``path`` in it counts only
   where it exists there.
2. The labels of ``images/a.jpg`` are ``labels/a.txt``, or ``a.txt`` beside it.
3. A line is ``class x y width height`` (the centre), or ``class x0 y0 x1 y1 …`` of a polygon, which
   gives the box around it and is drawn into the picture's mask. All numbers are shares from 0 to
   1; what reaches over the edge by rounding is cut.
4. A picture without labels, or with an empty file, was looked at and shows nothing. How many have
   no file at all is reported; so are label files without a picture where the whole folder is read.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from lineside.core import InvalidError, NotFoundError, need
from lineside.datasets.formats.folders import PICTURE_SUFFIXES, part_named, pictures
from lineside.datasets.formats.rle import mask_of_polygon, mask_png
from lineside.datasets.formats.rows import Entry, Listing, Row, Truth, number
from lineside.datasets.samples import Marked, Part, Skipped
from lineside.datasets.trees import (
    MOST_LIST_BYTES,
    MOST_NOTE_BYTES,
    Tree,
    composed,
    head_of,
    stem_of,
    suffix_of,
    walk,
)

_NAMES = ("classes.txt", "obj.names")
_PARTS = ("train", "val", "valid", "test")
_NUMBER = re.compile(rb"[0-9.eE+-]+")
_ROUNDING = 0.01
_MOST_OBJECTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Content of the yaml: class names by number, and the folders of each part's images."""

    names: Mapping[int, str]
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def looks_like_yolo(tree: Tree) -> bool:
    """Return whether a tree has class names and label files as YOLO writes them."""
    return bool(_yaml_of(tree)) or any(tree.has(name) for name in _NAMES)


def list_yolo(tree: Tree, name: str = "", *, labels: Sequence[str] = ()) -> Listing:
    """The pictures of a YOLO folder, with a report on labels of no picture."""
    plan = _plan(tree, name or _yaml_of(tree))
    truth = Truth(tuple(labels) or tuple(plan.names[key] for key in sorted(plan.names)))
    listing = Listing(format="yolo", entries=iter(()), sorts=True)
    reading = _Reading(tree=tree, plan=plan, truth=truth)

    named: set[str] = set()

    def entries() -> Iterator[Entry]:
        for part, picture in _pictures(tree, plan, skipped=listing.skipped):
            named.update(map(composed, label_files(picture)))
            row = partial(reading.row, picture, part=part)
            yield Entry(file=picture, where=picture, row=row)
        if reading.bare:
            reason = (
                f"{len(reading.bare)} pictures have no label file, such as {min(reading.bare)};"
                " taken as showing nothing"
            )
            listing.skipped.append(Skipped(where=tree.where, reason=reason))

    def unpaired() -> Iterator[Skipped]:
        if lost := sorted(_lost_labels(tree, plan, named=named)):
            reason = f"{len(lost)} label files are of no picture that was read, such as {lost[0]}"
            yield Skipped(where=tree.where, reason=reason)

    return replace(listing, entries=entries(), unpaired=unpaired)


def _lost_labels(tree: Tree, plan: _Plan, *, named: Collection[str]) -> Iterator[str]:
    """Label files that no picture has: texts in folders of labels, and others that begin so."""
    others = {place for places in plan.places.values() for place in places}
    for name in walk(tree):
        if PurePosixPath(name).name in _NAMES or suffix_of(name) != ".txt":
            continue
        if name not in others and composed(name) not in named:
            words = head_of(tree, name).partition(b"\n")[0].split()
            in_labels = "labels" in PurePosixPath(name).parts[:-1]
            if in_labels or (len(words) > 4 and all(map(_NUMBER.fullmatch, words))):
                yield name


def _yaml_of(tree: Tree) -> str:
    found = sorted(name for name in tree.files() if suffix_of(name) in (".yaml", ".yml"))
    for name in found:
        raw = tree.read(name, most=MOST_NOTE_BYTES)
        if any(line.startswith(b"names") for line in raw.splitlines()):
            return name
    return ""


def _plan(tree: Tree, name: str) -> _Plan:
    if not name:
        listed = next((one for one in _NAMES if tree.has(one)), "")
        if not listed:
            raise InvalidError(
                "no class names", where=tree.where, fix="Add a data.yaml or a classes.txt."
            )
        return _Plan(names=dict(enumerate(_lines(tree, listed))))
    document = _yaml(tree.read(name, most=MOST_NOTE_BYTES), where=name)
    names = document.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(
        isinstance(key, int) and not isinstance(value, dict | list) for key, value in names.items()
    ):
        raise InvalidError(
            "names is neither a list nor a table of numbers", where=name, fix="Name the classes."
        )
    root = document.get("path")
    places: dict[str, tuple[str, ...]] = {}
    for part in _PARTS:
        written = document.get(part)
        written = (
            written if isinstance(written, list) else [written] if isinstance(written, str) else []
        )
        found = [_place(tree, str(one), root=str(root or "")) for one in written]
        if found:
            places[part] = tuple(found)
    return _Plan(names={key: str(value) for key, value in names.items()}, places=places)


def _yaml(raw: bytes, *, where: str) -> dict[str, object]:
    yaml = need("yaml", extra="train")
    try:
        document = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a time of 99 s is a ValueError
        fault = " ".join(str(error).split())[:200]
        raise InvalidError(f"not YAML: {fault}", where=where, fix="Mend the file.") from error
    if not isinstance(document, dict):
        raise InvalidError("not a table", where=where, fix="Name names, train and val.")
    return document


def _place(tree: Tree, written: str, *, root: str) -> str:
    """A place as the tree has it: below ``path`` where that is there, steps up taken back."""
    words = _inner(written)
    bare = "/".join(words)
    below = "/".join([*_inner(root), *words])
    for place in (below, bare, "/".join(words[-2:]), "/".join(words[-3:])):
        if suffix_of(place) == ".txt" and tree.has(place):
            return place
        if any(True for _ in tree.files(place)) or tree.folders(place):
            return place
    return bare


def _inner(path: str) -> list[str]:
    """The words of a path that lead inwards."""
    return [word for word in PurePosixPath(path).parts if word not in ("..", ".", "/")]


def _lines(tree: Tree, name: str) -> list[str]:
    try:
        text = tree.read(name, most=MOST_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidError("not UTF-8 text", where=name, fix="Save it as UTF-8.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _pictures(tree: Tree, plan: _Plan, *, skipped: list[Skipped]) -> Iterator[tuple[Part, str]]:
    """Pictures with their parts: of the yaml's places, else of the ``images`` folders."""
    for word, places in plan.places.items():
        for place in places:
            found = False
            for name in _below(tree, place):
                found = True
                yield part_named(word), name
            if not found:
                skipped.append(Skipped(where=place, reason=f"no picture of the part {word} there"))
    if plan.places:
        return
    for folder in tree.folders() or [""]:
        if folder in ("labels", "annotations"):
            continue
        for name in (one for one in walk(tree, folder) if suffix_of(one) in PICTURE_SUFFIXES):
            words = PurePosixPath(name).parts[:-1]
            parts = [part for word in words if (part := part_named(word)) is not Part.OPEN]
            yield (parts[0] if parts else Part.OPEN), name
    if tree.folders():
        yield from ((Part.OPEN, name) for name in pictures(tree, ""))


def _below(tree: Tree, place: str) -> Iterator[str]:
    if suffix_of(place) == ".txt":
        for line in _lines(tree, place) if tree.has(place) else ():
            yield (
                _place(tree, line, root="")
                if not tree.has(line.removeprefix("./"))
                else (line.removeprefix("./"))
            )
        return
    yield from (name for name in walk(tree, place) if suffix_of(name) in PICTURE_SUFFIXES)


@dataclass(slots=True, kw_only=True)
class _Reading:
    tree: Tree
    plan: _Plan
    truth: Truth
    bare: set[str] = field(default_factory=set)

    def row(self, picture: str, *, part: Part) -> Row:
        name, raw = self.notes(picture)
        marked: list[Marked] = []
        polygons: list[tuple[float, ...]] = []
        for place, line in enumerate(raw.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                mark, polygon = self.mark(line.split())
            except InvalidError as error:
                raise InvalidError(f"{name}:{place}: {error.message}") from error
            marked.append(mark)
            polygons += [polygon] if polygon else []
            if len(marked) > _MOST_OBJECTS:
                raise InvalidError(f"{name}: more than {_MOST_OBJECTS} objects")
        held = {mark.label for mark in marked}
        return Row(
            where=picture,
            file=picture,
            labels=tuple(sorted(held)),
            known=self.truth.judged(held, over=self.truth.wanted),
            split=part,
            marked=tuple(marked),
            in_shares=True,
            drawn=partial(draw_shares, tuple(polygons)) if polygons else None,
        )

    def notes(self, picture: str) -> tuple[str, str]:
        """Name and text of a picture's label file; empty text where there is none."""
        for name in label_files(picture):
            try:
                raw = self.tree.read(name, most=MOST_NOTE_BYTES)
            except NotFoundError:
                continue
            try:
                return name, raw.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise InvalidError(f"{name}: not UTF-8 text") from error
        self.bare.add(picture)
        return "", ""

    def mark(self, words: Sequence[str]) -> tuple[Marked, tuple[float, ...]]:
        values = [number(word) for word in words]
        written = self.plan.names.get(int(values[0])) if values[0] == int(values[0]) else None
        if written is None:
            raise InvalidError(f"class {words[0]} is not among the {len(self.plan.names)} names")
        label = self.truth.name(written)
        if len(values) == 5:
            x, y, width, height = values[1:]
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            return _box(label, corners), ()
        if len(values) >= 7 and len(values) % 2:
            xs, ys = values[1::2], values[2::2]
            return _box(label, (min(xs), min(ys), max(xs), max(ys))), tuple(values[1:])
        raise InvalidError(f"{len(values)} numbers, 5 make a box and 7, 9, … a polygon")


def _box(label: str, corners: tuple[float, float, float, float]) -> Marked:
    if min(corners) < -_ROUNDING or max(corners) > 1 + _ROUNDING:
        raise InvalidError(f"a box outside of its picture: {' '.join(f'{c:g}' for c in corners)}")
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in corners)
    if x0 >= x1 or y0 >= y1:
        raise InvalidError("a box without area")
    return Marked(label=label, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1)


def label_files(picture: str) -> Iterator[str]:
    """Where a picture's labels may stand."""
    path = PurePosixPath(picture)
    words = list(path.with_suffix(".txt").parts)
    for place in range(len(words) - 2, -1, -1):
        if words[place] == "images":
            yield "/".join([*words[:place], "labels", *words[place + 1 :]])
            break
    yield "/".join(words)
    yield f"labels/{stem_of(picture)}.txt"


def draw_shares(polygons: Sequence[Sequence[float]], width: int, height: int) -> bytes:
    """The mask of polygons in shares of the picture, as PNG."""
    mask = np.zeros((height, width), np.bool_)
    for polygon in polygons:
        scaled = np.asarray(polygon, np.float64).reshape(-1, 2) * (width, height)
        mask |= mask_of_polygon(scaled.ravel().tolist(), width=width, height=height)
    return mask_png(mask)
