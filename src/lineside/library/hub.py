"""Connection to a running hub: what it keeps as rows, images, packages and data frames."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from lineside.core import rfc3339
from lineside.library.client import HubClient
from lineside.library.model import Model, data_frame, load
from lineside.vision import decode_picture

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
Moment = datetime | str
ChangeKind = Literal["decisions", "verdicts", "events", "twin"]


class Rows:
    """Rows of a list of the hub, fetched page by page while one goes through them.

    A row has the keys of the HTTP API (docs/reference/http.md). What a list that begins at its
    newest row gets meanwhile is not part of it; one that ends there has it too. No row comes twice.
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
    """

    def __init__(self, client: HubClient) -> None:
        self.client = client

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

    def image(self, frame: str) -> NDArray[np.uint8]:
        """Return the image of a frame, (height, width, 3) uint8 in RGB."""
        return decode_picture(self.client.get_bytes(f"/frames/{_quoted(frame)}/picture"))

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

    def samples(self, dataset: str) -> Rows:
        """Images of a dataset's draft by time, with digest, state and labels."""
        return self._rows(f"/datasets/{_quoted(dataset)}/samples")

    def runs(self) -> Rows:
        """Trainings, newest first."""
        return self._rows("/runs")

    def models(self) -> Rows:
        """Groups of model versions."""
        return self._rows("/models")

    def versions(self, group: str) -> Rows:
        """Numbered versions of a group of models, with digest, evidence and verdicts."""
        return self._rows(f"/models/{_quoted(group)}/versions")

    def packages(self) -> Rows:
        """Packages, newest first."""
        return self._rows("/packages")

    def package(self, digest: str) -> Model:
        """Load a package of the registry by its digest, as ``sha256:…``."""
        return load(self.client.get_bytes(f"/packages/{digest}/content"))

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

    def changes(self, replay: str, kind: ChangeKind = "decisions") -> Rows:
        """Differences that a replay found, by its id; the first 500 of a kind.

        The keys are those of its result (docs/how-to/replay.md).
        """
        return Rows(self.client, f"/replays/{_quoted(replay)}/result", f"{kind}_changed")

    def _rows(self, path: str, **query: object) -> Rows:
        return Rows(self.client, path, **query)


def connect(
    url: str, *, token: str, ca: str | PathLike[str] | None = None, retry_s: float = 30.0
) -> Hub:
    """Connect to a hub; nothing is sent before the first question.

    Args:
        url: such as ``https://hub.plant.lan:8443``.
        token: an access token, made by ``lineside token issue`` or on the page.
        ca: certificate of the site's own authority; None: the system's authorities.
        retry_s: how long rows that one goes through wait for a hub that is away; 0: not at all.

    Raises:
        InvalidError: the URL is no address of a hub, or the token cannot be one.
    """
    return Hub(HubClient(url, token=token, ca=ca if ca is None else Path(ca), retry_s=retry_s))


_quoted = partial(quote, safe="")


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
