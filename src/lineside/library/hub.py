"""Connection to a running hub: what it keeps as rows, images, packages and data frames."""

from collections.abc import Iterator
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class Rows:
    """Rows of a list of the hub, fetched page by page while one goes through them.

    A row has the keys of the HTTP API (docs/reference/http.md).
    """

    def __init__(self, client: HubClient, path: str, query: dict[str, object]) -> None:
        self._client = client
        self._path = path
        self._query = query

    def __iter__(self) -> Iterator[Row]:
        """Begin at the first row; each loop asks the hub anew."""
        return self._client.rows(self._path, **self._query)

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
        **narrowed: str | float,
    ) -> Rows:  # fmt: skip
        """Frames with their answers, newest first; times as RFC 3339 or aware.

        ``narrowed``: further parameters of the filter of frames (docs/reference/http.md), such as
        ``line``, ``verdict``, ``label``, ``min_score``, ``part``, ``dataset`` and ``sort``.
        """
        query = {"camera": camera, "since": _time(since), "until": _time(until), **narrowed}
        return self._rows("/frames", **query)

    def image(self, frame: str) -> NDArray[np.uint8]:
        """Return the image of a frame, (height, width, 3) uint8 in RGB."""
        return decode_picture(self.client.get_bytes(f"/frames/{frame}/picture"))

    def events(
        self, *, kind: str = "", source: str = "", subject: str = "", newest_first: bool = False
    ) -> Rows:
        """Entries of the event log; ``kind`` is a type such as ``lineside.prediction.v1``."""
        return self._rows(
            "/events", type=kind, source=source, subject=subject, newest_first=newest_first or None
        )

    def datasets(self) -> Rows:
        """Datasets with their labels and sizes."""
        return self._rows("/datasets")

    def runs(self) -> Rows:
        """Trainings, newest first."""
        return self._rows("/runs")

    def models(self) -> Rows:
        """Groups of model versions."""
        return self._rows("/models")

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

    def _rows(self, path: str, **query: object) -> Rows:
        return Rows(self.client, path, query)


def connect(url: str, *, token: str, ca: str | PathLike[str] | None = None) -> Hub:
    """Connect to a hub; nothing is sent before the first question.

    Args:
        url: such as ``https://hub.plant.lan:8443``.
        token: an access token, made by ``lineside token issue`` or on the page.
        ca: certificate of the site's own authority; None: the system's authorities.

    Raises:
        InvalidError: the URL is no address of a hub, or the token cannot be one.
    """
    return Hub(HubClient(url, token=token, ca=ca if ca is None else Path(ca)))


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
