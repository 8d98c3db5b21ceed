"""Counts for people: each person's own pictures, answers, history and corrections.

1. What somebody asked is theirs: nobody else's list, page or picture shows it.
2. The newest 100 of a person are kept; the pictures of older ones may go, unless something else
   names them.
3. A picture that was not judged is kept with its reason, and has no number. A picture that cannot
   be read is refused and not kept.
4. A correction adds the picture with the number a person counted to a dataset; correcting again
   replaces it.
"""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    NotFoundError,
    Plant,
    Task,
    decode,
    digest_of,
    new_id,
    to_plain,
)
from lineside.datasets import Library, Sample
from lineside.hub.access.permissions import Identity
from lineside.hub.inference.endpoints import EndpointPrediction, find_endpoint
from lineside.hub.inference.functions import Functions, InventoryRecord
from lineside.hub.ingest.frames import picture_of_bytes
from lineside.hub.views import Picture
from lineside.store import LEAVING, Blobs, Records
from lineside.vision import PictureState, encode_png
from lineside.vision.draw import heat_layer
from lineside.web.format import counted, percent

_MOST_COUNT = 1_000_000


class Agreement(StrEnum):
    """Agreement of a count with the inventory record."""

    AGREES = "agrees"
    POSSIBLE = "possible"
    DISAGREES = "disagrees"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """A person's corrected count and the dataset it was added to."""

    count: int
    dataset: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """Body of a correction."""

    count: int
    dataset: str

    def __post_init__(self) -> None:
        if not 0 <= self.count <= _MOST_COUNT:
            raise InvalidError("a whole number from 0", where="count", fix="Count again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountRequest:
    """Body of a request for a count: a function, and one of its pictures."""

    function: str
    picture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionView:
    """A function on offer; ``counts``: its endpoint counts objects."""

    name: str
    endpoint: str
    bucket: str
    prefix: str
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """One picture that somebody had counted.

    Attributes:
        picture: its name in the store; "" for one that was uploaded.
        state: whether it could be judged; unless ``ok`` there is no number, and ``reason`` says
            why.
        value, low, high, more, chances: as ``CountAnswer`` says them; None and empty where the
            picture was not judged.
        error_rate: of the interval, as the package promises it.
        recorded: what the inventory says; None with ``record_reason`` where it says nothing.
    """

    id: str
    at: datetime
    by: str
    function: str
    picture: str
    digest: Digest
    package: Digest
    state: PictureState
    reason: str = ""
    value: int | None = None
    low: int = 0
    high: int = 0
    more: bool = False
    chances: tuple[float, ...] = ()
    error_rate: float = 0.0
    recorded: int | None = None
    record_reason: str = ""
    correction: Correction | None = None

    @property
    def most(self) -> int:
        """The largest number the package can tell."""
        return max(0, len(self.chances) - 2)

    @property
    def surely_more(self) -> bool:
        """True where "more than ``most``" is the likeliest answer."""
        return bool(self.chances) and self.chances[-1] >= max(self.chances)

    @property
    def agreement(self) -> Agreement:
        """Agreement of the count with the inventory record."""
        if self.value is None or self.recorded is None:
            return Agreement.UNKNOWN
        above = self.recorded > self.high and self.more
        if not (self.low <= self.recorded <= self.high or above):
            return Agreement.DISAGREES
        same = self.recorded == self.value and not self.surely_more
        return Agreement.AGREES if same else Agreement.POSSIBLE


def headline(view: CountView) -> str:
    """``3 objects``, ``more than 8 objects``, or that it was not counted."""
    if view.value is None:
        return "Not counted"
    if view.surely_more:
        return f"More than {counted(view.most, 'object')}"
    return counted(view.value, "object")


def interval(view: CountView) -> str:
    """Return the interval of possible numbers as text, or the reason why there is none."""
    if view.value is None:
        reason = f": {view.reason}" if view.reason else ""
        return (
            f"The picture is {view.state}{reason}. A picture that cannot be judged has no number."
        )
    if view.error_rate >= 1:
        return "The package has no interval: too few pictures showed an error rate."
    held = percent(1 - view.error_rate, digits=0)
    if view.low == view.high and not view.more:
        return f"Sure: no other number is possible at {held}."
    if view.more and view.low > view.high - 1 and view.surely_more:
        return f"Possible at {held}: {view.high} or more."
    upper = f"{view.high} or more" if view.more else str(view.high)
    return f"Possible at {held}: {view.low} to {upper}."


logger = logging.getLogger(__name__)

_KEPT = 100
_BLOCK = 100
_PAGE = 1000


class Counter:
    """Answers requests for counts and remembers them by person; safe from several threads."""

    def __init__(
        self,
        records: Records,
        blobs: Blobs,
        *,
        functions: Functions,
        plant: Plant,
        library: Library,
        clock: Clock,
    ) -> None:
        self._records = records
        self._blobs = blobs
        self._functions = functions
        self._plant = plant
        self._library = library
        self._clock = clock

    # ---- what there is

    def functions(self) -> tuple[FunctionView, ...]:
        """Every function, in the order of the settings."""
        return tuple(
            FunctionView(
                name=one.name,
                endpoint=one.endpoint,
                bucket=one.bucket_name,
                prefix=one.prefix,
                counts=find_endpoint(self._plant, one.endpoint).task is Task.COUNT,
            )
            for one in self._functions.all()
        )

    def offered(self, function: str) -> tuple[str, ...]:
        """Names of the pictures on offer."""
        return self._functions.pictures_of(function).names()

    # ---- asking

    def ask(self, request: CountRequest, *, who: Identity) -> CountView:
        """Have a picture on offer counted.

        Raises:
            RefusedError: it is not on offer.
            NotFoundError: it is not there any more, or no package is in use.
            InvalidError: it is no picture.
        """
        shelf = self._functions.pictures_of(request.function)
        name = shelf.offered(request.picture)
        found = self._judged(request.function, picture := shelf.read(name))
        recorded = shelf.inventory_record(name)
        return self._keep(picture, found, function=request.function, name=name, recorded=recorded,
                          who=who)  # fmt: skip

    def look(self, function: str, picture: bytes, *, who: Identity) -> CountView:
        """Have a picture of somebody's own counted; ``InvalidError`` where it is none."""
        found = self._judged(function, picture)
        recorded = InventoryRecord(reason="an uploaded picture has no inventory record")
        return self._keep(picture, found, function=function, name="", recorded=recorded, who=who)

    def _judged(self, function: str, picture: bytes) -> EndpointPrediction:
        found = self._functions.predict(function, picture)
        if found.manifest.count is None:
            raise InvalidError(
                f"the package in use for {found.inspection.id} counts nothing",
                where=function,
                fix="Take a package of the task count into use.",
            )
        return found

    def _keep(
        self, picture: bytes, found: EndpointPrediction, *, function: str, name: str,
        recorded: InventoryRecord, who: Identity,
    ) -> CountView:  # fmt: skip
        said = found.prediction.count
        rule = found.manifest.count
        view = CountView(
            id=new_id("cnt", clock=self._clock),
            at=self._clock.now(),
            by=who.name,
            function=function,
            picture=name,
            digest=digest_of(picture),
            package=found.package,
            state=found.prediction.state,
            reason=found.prediction.reason,
            recorded=recorded.quantity,
            record_reason=recorded.reason,
        )
        if said is not None:
            view = replace(
                view, value=said.value, low=said.low, high=said.high, more=said.more,
                chances=said.chances, error_rate=rule.error_rate if rule else 0.0,
            )  # fmt: skip
        self._blobs.put(picture)
        self._put(view, who)
        self._forget_oldest(who)
        return view

    # ---- remembering

    def all(self, *, who: Identity) -> tuple[CountView, ...]:
        """Return this person's counts, newest first."""
        pages = self._records.documents.page(_kind(who), limit=_PAGE)
        views = [decode(CountView, page.body, where=page.id) for page in pages]
        return tuple(reversed(views))

    def one(self, count_id: str, *, who: Identity) -> CountView:
        """``NotFoundError`` where this person asked no such thing."""
        try:
            document = self._records.documents.get(_kind(who), count_id)
        except NotFoundError as error:
            raise NotFoundError(
                "you asked for no such count", where=count_id, fix="See your own at /count."
            ) from error
        return decode(CountView, document.body, where=count_id)

    def picture(self, count_id: str, *, who: Identity) -> Picture:
        """The very bytes that were judged."""
        return picture_of_bytes(self._blobs.get(self.one(count_id, who=who).digest))

    def _put(self, view: CountView, who: Identity) -> None:
        self._records.documents.put(_kind(who), view.id, body=to_plain(view))

    def _forget_oldest(self, who: Identity) -> None:
        documents = self._records.documents
        kept = documents.page(_kind(who), limit=_PAGE)
        for document in kept[: max(0, len(kept) - _KEPT)]:
            digest = str(document.body["digest"])
            with self._records.transaction():
                documents.delete(_kind(who), document.id)
                documents.put(LEAVING, digest, body={})

    def activation(self, count_id: str, *, who: Identity) -> bytes:
        """PNG of the picture's size: where the package looked; clear where it saw nothing.

        Raises:
            NotFoundError: this person asked no such thing, or the package tells no such map.
        """
        view = self.one(count_id, who=who)
        heat = self._functions.explain(view.package, self._blobs.get(view.digest))
        if "objects" not in heat:
            raise NotFoundError(
                "the package does not tell where it looked", where=count_id, fix="Use another."
            )
        return encode_png(heat_layer(heat["objects"]))

    # ---- correcting

    def correct(self, count_id: str, wanted: Corrected, *, who: Identity) -> CountView:
        """Teach from a picture: the number a person counted on it, into a dataset.

        Raises:
            NotFoundError: this person asked no such thing.
            InvalidError: no name of a dataset.
        """
        view = self.one(count_id, who=who)
        sample = Sample(
            name=view.picture or f"{view.digest[7:19]}.jpg",
            digest=view.digest,
            count=wanted.count,
            group=_group(view),
            author=who.name,
        )
        self._teach(wanted, sample, by=who.name)
        correction = Correction(
            count=wanted.count, dataset=wanted.dataset, by=who.name, at=self._clock.now()
        )
        view = replace(view, correction=correction)
        self._put(view, who)
        logger.info("count corrected count=%s dataset=%s by=%s", view.id, wanted.dataset, who.name)
        return view

    def _teach(self, wanted: Corrected, sample: Sample, *, by: str) -> None:
        """The last correction of a picture stands; what was said before stays as its lineage."""
        name, digest = wanted.dataset, sample.digest
        if self._holds_other(name, sample):
            self._library.recount(name, digest, count=wanted.count, by=by)
        else:
            self._library.add(name, [(sample, self._blobs.get(digest))], by=by)

    def _holds_other(self, dataset: str, sample: Sample) -> bool:
        if dataset not in self._library.names():
            return False
        held = {one.digest: one.count for one in self._library.draft(dataset).samples}
        return sample.digest in held and held[sample.digest] != sample.count


def _kind(who: Identity) -> str:
    """Where a person's counts stand; a program's token is another person than a browser."""
    return f"count:{who.kind}:{who.name}"


def _group(view: CountView) -> str:
    """Neighbouring numbers are often the same bin: a hundred of them stay together."""
    stem = PurePosixPath(view.picture).stem
    if stem.isascii() and stem.isdigit():
        return f"{view.function}/{int(stem) // _BLOCK}"
    return view.picture or view.digest[7:19]
