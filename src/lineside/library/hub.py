"""Connection to a running hub: what it keeps as rows, images, packages and data frames."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    InvalidError,
    NotFoundError,
    RefusedError,
    SystemClock,
    need,
    rfc3339,
)
from lineside.core.codec import shown
from lineside.core.config import LOOPBACK
from lineside.core.ids import split_version
from lineside.library.client import HubClient
from lineside.models import Package
from lineside.vision import decode_picture

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Moment = datetime | str
Unsigned = Literal["refused", "allowed"]
ChangeKind = Literal["decisions", "verdicts", "events", "twin"]
T = TypeVar("T")


class Rows:
    """Rows of a list of the hub, fetched page by page while one goes through them.

    A row has the keys of the HTTP API (docs/reference/http.md). What a list that begins at its
    newest row gets meanwhile is not part of it; one that ends there has it too. No row comes twice.
    Samples are ordered by time of capture and name, so those that arrive meanwhile may be left out.
    """

    def __init__(
        self, client: HubClient, path: str, items: str = "items", /, **query: object
    ) -> None:
        self._begin = partial(client.rows, path, items, **query)

    def __iter__(self) -> Iterator[Row]:
        """Begin at the first row; each loop asks the hub anew.

        Raises:
            UnavailableError: the hub is away, or was for longer than ``connect`` says, or its
                answer ends in the middle; the rows before it are complete.
        """
        return self._begin()

    def to_pandas(self) -> "pd.DataFrame":
        """Return all rows as a table of pandas, nested values with dots between their names.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return data_frame([_flat(row) for row in self])


class Hub:
    """A running hub, asked with an access token; every method raises the errors of the API.

    ``UnavailableError`` where it does not answer, ``RefusedError`` where the token may not,
    ``NotFoundError`` and ``InvalidError`` as the hub says.

    Attributes:
        client: calls addresses of the API that have no method here.
    """

    def __init__(
        self, client: HubClient, *, root: bytes | None = None, unsigned: Unsigned = "refused",
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        """``root`` and ``unsigned``: see ``connect``; ``clock``: of the signatures' expiry."""
        self.client = client
        self._root = root
        self._unsigned = _one_of(Unsigned, unsigned, where="unsigned")
        self._clock = clock or SystemClock()

    def cameras(self) -> Rows:
        """Cameras with their state and newest frame."""
        return self._rows("/cameras")

    def frames(
        self, *, camera: str = "", since: Moment | None = None, until: Moment | None = None,
        **narrowed: str | float | Sequence[str],
    ) -> Rows:  # fmt: skip
        """Frames with their answers, newest first.

        Args:
            camera: its id; "" for all.
            since: captured then or later, RFC 3339 or aware.
            until: captured before.
            narrowed: further parameters of the list (docs/reference/http.md), such as ``line``,
                ``verdict``, ``label``, ``min_score``, ``part``, ``dataset``, ``sort`` and
                ``limit``, the rows of a page; several verdicts as a list.
        """
        query = {"camera": camera, "since": _time(since), "until": _time(until), **narrowed}
        return self._rows("/frames", **query)

    def image(self, frame: str | Row) -> NDArray[np.uint8]:
        """Return the image of a frame, (height, width, 3) uint8 in RGB."""
        return decode_picture(
            self.client.get_bytes(f"/frames/{_quoted(_name_of(frame, 'id'))}/picture")
        )

    def events(
        self, *, kind: str = "", source: str = "", subject: str = "", after: int | None = None,
        newest_first: bool = False, limit: int = 100,
    ) -> Rows:  # fmt: skip
        """Entries of the event log, oldest first.

        Args:
            kind: a type, such as ``lineside.prediction.v1``; "" for all.
            source: where it happened, such as a camera; "" for all.
            subject: what it is about; "" for all.
            after: position in the log behind which to begin; newest first: before which.
            newest_first: from the end of the log.
            limit: rows of a page, 1 to 1000.
        """
        return self._rows(
            "/events", type=kind, source=source, subject=subject, after=after,
            newest_first=newest_first or None, limit=limit,
        )  # fmt: skip

    def datasets(self) -> Rows:
        """Datasets with their labels and sizes."""
        return self._rows("/datasets")

    def samples(self, dataset: str | Row) -> Rows:
        """Images of a dataset's draft by time, with digest, state and labels."""
        return self._rows(f"/datasets/{_quoted(_name_of(dataset, 'name'))}/samples")

    def runs(self) -> Rows:
        """Trainings, newest first."""
        return self._rows("/runs")

    def models(self) -> Rows:
        """Groups of model versions."""
        return self._rows("/models")

    def versions(self, group: str | Row) -> Rows:
        """Numbered versions of a group of models, with digest, evidence and verdicts."""
        return self._rows(f"/models/{_quoted(_name_of(group, 'name'))}/versions")

    def packages(self) -> Rows:
        """Packages, newest first."""
        return self._rows("/packages")

    def package(self, name: str | Row) -> Package:
        """Fetch a package; ``lineside.load(name, hub=hub)`` makes a model of it.

        It is verified by the rules of a device (``lineside.fleet.trust.client``), from the root
        that ``connect`` was given, else from the first root that the hub hands out: signed, not
        withdrawn, not expired, and every byte as signed before the first is read.

        Args:
            name: version of a model, ``GROUP/NUMBER`` such as ``tiles/4``, or ``sha256:…``, or a
                row of ``versions`` or ``packages``, whose digest it is.

        Raises:
            NotFoundError: nothing of this name is signed.
            RefusedError: signed by others, altered at the hub or on the way, or the hub is asked
                without TLS on another machine, and no root is given.
        """
        name = _name_of(name, "digest")
        signed = self._root is not None or self._unsigned != "allowed"
        data, digest = self._signed(name) if signed else self._registered(name)
        package = Package.read(data, where=name[:100])
        if package.digest != digest:
            raise RefusedError(
                f"the package has digest {package.digest}, wanted {digest}", where=name[:100],
                fix="Look after the hub, and after what stands before it.",
            )  # fmt: skip
        return package

    def _signed(self, name: str) -> tuple[bytes, str]:
        """Bytes and digest of a signed package; nothing of it is kept on the disk."""
        from lineside.fleet import UpdateClient, pin_root
        from lineside.fleet.trust.download import UpdateLimits, read_metadata

        source, limits, root = self.client.updates(), UpdateLimits(), self._root
        if root is None:
            place = urlsplit(self.client.base)
            if place.scheme == "http" and place.hostname not in LOOPBACK:
                raise RefusedError(
                    "whoever answers without TLS would be believed", where=self.client.base,
                    fix="Give root=, or write https://.",
                )  # fmt: skip
            root = read_metadata(
                source, "1.root.json", most_bytes=limits.root_bytes, clock=self._clock,
                limits=limits,
            )  # fmt: skip
        with TemporaryDirectory(prefix="lineside-trust-") as scratch:
            folder = Path(scratch)
            pin_root(folder, root)
            updates = UpdateClient(folder, source=source, clock=self._clock, scratch=folder)
            target = updates.find(name)
            fetched = updates.fetch(target, into=folder, progress=lambda *_: None)
            return fetched.read_bytes(), str(target.custom["digest"])

    def _registered(self, name: str) -> tuple[bytes, str]:
        """Bytes of a package of the registry, signed or not, and the digest that the hub says."""
        digest = name
        if not name.startswith("sha256:"):
            group, number = split_version(name)
            path = f"/models/{_quoted(group)}/versions/{number}"
            digest = self.client.part(self.client.get(path), "digest", str, path=path)
        return self.client.get_bytes(f"/packages/{_quoted(digest)}/content"), digest

    def replays(self) -> Rows:
        """Replays with their span, counts and first differences."""
        return self._rows("/replays")

    def replay(
        self, *, since: Moment, until: Moment, package: str = "", inspection: str = ""
    ) -> Row:
        """Start a replay of a recorded span through a package; its row, see ``replays``."""
        wish = {"since": _time(since), "until": _time(until), "package": package}
        row: Row = self.client.post("/replays", {**wish, "inspection": inspection})
        return row

    def changes(self, replay: str | Row, kind: ChangeKind = "decisions") -> Rows:
        """Differences that a replay found, by its id; the first 500 of a kind.

        The keys are those of its result (docs/how-to/replay.md).

        Raises:
            InvalidError: there is no such kind.
        """
        changed = f"{_one_of(ChangeKind, kind, where='kind')}_changed"
        return Rows(self.client, f"/replays/{_quoted(_name_of(replay, 'id'))}/result", changed)

    def _rows(self, path: str, **query: object) -> Rows:
        return Rows(self.client, path, **query)


def connect(
    url: str, *, token: str, ca: str | PathLike[str] | None = None,
    root: str | PathLike[str] | None = None, unsigned: Unsigned = "refused", retry_s: float = 30.0,
) -> Hub:  # fmt: skip
    """Connect to a hub; nothing is sent before the first question.

    Args:
        url: such as ``https://hub.plant.lan:8443``, without a path.
        token: an access token, made by ``lineside token issue`` or on the page.
        ca: certificate of the site's own authority; None: the system's authorities.
        root: the site's root of trust, as ``lineside trust root`` writes it; None: the one that the
            hub hands out is believed, so the certificate of the hub is what trust rests on, and
            without TLS a package is taken from a hub of this machine only.
        unsigned: "allowed": without ``root`` packages are taken from the registry, signed or not.
        retry_s: how long, from its first failure, a page of rows is asked for again while the hub
            is away; 0: not at all. The last request, which takes 30 s without answer, is awaited.

    Raises:
        InvalidError: the URL is no address of a hub, the token cannot be one, ``ca`` is no
            certificate, or ``unsigned`` is no word for it.
        NotFoundError: there is no such root.
        RefusedError: the root is an empty file.
    """
    client = HubClient(url, token=token, ca=ca if ca is None else Path(ca), retry_s=retry_s)
    try:
        trusted = None if root is None else Path(root).read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"the root cannot be read: {error.strerror}", where=str(root),
            fix="Name the file that lineside trust root FILE wrote.",
        ) from error  # fmt: skip
    if trusted == b"":
        raise RefusedError(
            "the root is empty", where=str(root),
            fix="Name the file that lineside trust root FILE wrote.",
        )  # fmt: skip
    return Hub(client, root=trusted, unsigned=unsigned)


_quoted = partial(quote, safe="")


def _name_of(named: str | Row, key: str) -> str:
    """The id or name of a row of a list or a table, under a key, or the text that is one."""
    found = named.get(key) if hasattr(named, "get") else named
    if not isinstance(found, str):
        raise InvalidError(
            f"{shown(named)} is no text and has no {key!r}", where=key,
            fix=f"Give a row of the list, or its {key!r}.",
        )  # fmt: skip
    return found


def _one_of(known: object, word: T, *, where: str) -> T:
    if word not in get_args(known):
        raise InvalidError(
            f"{word!r} is not known", where=where, fix=f"Known: {', '.join(get_args(known))}."
        )
    return word


def _time(moment: Moment | None) -> str | None:
    return rfc3339(moment) if isinstance(moment, datetime) else moment


def _flat(row: Row, *, before: str = "") -> Row:
    found: Row = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, before=f"{before}{name}.")
        else:
            found[before + name] = value
    return found


def data_frame(rows: Sequence[object], *, columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """Return rows as a table of pandas; ``MissingExtraError`` where it is not installed."""
    frame: pd.DataFrame = need("pandas").DataFrame(rows, columns=columns and list(columns))
    return frame
