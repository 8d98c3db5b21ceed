"""Functions that read a picture from a store and have it answered.

1. A caller names store, prefix, endpoint and picture; all four are needed, and the first three must
   be those of the function's settings. Nothing else can be read through it.
2. The picture's bytes come back as they are. The prediction is what the endpoint answers.
3. A failure has its own status and a sentence; it never looks like an answer. A reply carries no
   context of the machine that made it, and lets no foreign page read it.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.core import (
    Clock,
    Digest,
    InvalidError,
    LinesideError,
    NotFoundError,
    Plant,
    RefusedError,
    decode,
)
from lineside.hub.config import ServedFunction
from lineside.hub.inference.answering import Answered, Values, answered, endpoint_of, values_of
from lineside.hub.inference.images import Shelf
from lineside.hub.models.packages import Packages

_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRequest:
    """What a caller sends."""

    s3_bucket: str
    s3_prefix: str
    endpoint_name: str
    image_name: str

    def __post_init__(self) -> None:
        if not self.image_name:
            raise InvalidError("no picture named", where="image_name", fix="Name one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A picture with what its endpoint answered."""

    picture: bytes
    prediction: Values
    package: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Replied:
    """The document of the function contract; ``failed`` where its status is not 200."""

    document: dict[str, Any]
    failed: bool


class Functions:
    """The functions of the hub's settings; safe from several threads."""

    def __init__(
        self,
        settings: tuple[ServedFunction, ...],
        *,
        plant: Plant,
        packages: Packages,
        clock: Clock,
    ) -> None:
        for one in settings:
            endpoint_of(plant, one.endpoint)
        self._settings = {one.name: one for one in settings}
        self._shelves = {one.name: Shelf(one, clock=clock) for one in settings}
        self._plant = plant
        self._packages = packages

    def all(self) -> tuple[ServedFunction, ...]:
        """In the order of the settings."""
        return tuple(self._settings.values())

    def one(self, name: str) -> ServedFunction:
        """``NotFoundError`` lists the known ones."""
        if name not in self._settings:
            known = ", ".join(self._settings) or "none; add [[function]] to the hub's settings"
            raise NotFoundError(f"no function {name!r}", where="function", fix=f"Known: {known}.")
        return self._settings[name]

    def shelf(self, name: str) -> Shelf:
        """What the function may read."""
        return self._shelves[self.one(name).name]

    def judged(self, name: str, picture: bytes) -> Answered:
        """What the function's endpoint says of a picture."""
        endpoint = self.one(name).endpoint
        return answered(self._packages, self._plant, endpoint=endpoint, picture=picture)

    def explained(self, package: Digest, picture: bytes) -> dict[str, NDArray[np.float32]]:
        """What spoke for an answer: name → (height, width) 0-1 on the picture's pixels."""
        frame, predictor = self._packages.judge(package, picture)
        return predictor.explain(frame)

    def call(self, name: str, request: FunctionRequest) -> Called:
        """Read the picture, have it answered.

        Raises:
            RefusedError: a store, prefix or endpoint that is not the function's.
            NotFoundError: no such function or picture, or no package is in use.
            InvalidError: the picture is none, or cannot be judged.
        """
        function = self.one(name)
        self._check(function, request)
        picture = self._shelves[name].read(request.image_name)
        found = self.judged(name, picture)
        return Called(
            picture=picture, prediction=values_of(self._plant, found), package=found.package
        )

    def _check(self, function: ServedFunction, request: FunctionRequest) -> None:
        inspection = endpoint_of(self._plant, function.endpoint)
        allowed = {
            "s3_bucket": (function.bucket_name,),
            "s3_prefix": (function.prefix, function.prefix.strip("/")),
            "endpoint_name": (function.endpoint, inspection.endpoint, inspection.id),
        }
        for key, names in allowed.items():
            known = [name for name in names if name] or [""]
            if getattr(request, key) not in known:
                raise RefusedError(
                    f"this function does not read {getattr(request, key)!r}",
                    where=key,
                    fix=f"Name {names[0]!r}.",
                )


def replied(functions: Functions, name: str, *, document: object) -> Replied:
    """Call a function with a caller's document; its failures are replies with their own status."""
    try:
        request = decode(FunctionRequest, document, where="payload")
        called = functions.call(name, request)
    except LinesideError as error:
        return _reply(error.http_status, told(error))
    return _reply(200, body_of_call(called))


def body_of_call(called: Called) -> dict[str, Any]:
    """Picture and prediction as the contract writes them."""
    picture = base64.b64encode(called.picture).decode()
    return {"image": picture, "prediction": called.prediction}


def told(error: LinesideError) -> dict[str, Any]:
    """A failure in words."""
    faults = [f"{fault.path}: {fault.expected}" for fault in error.faults]
    return {"error": error.message, "where": error.where, "fix": error.fix, "faults": faults}


def _reply(status: int, body: Mapping[str, Any]) -> Replied:
    document = {"statusCode": status, "headers": {"Content-Type": _JSON}, "body": dict(body)}
    return Replied(document=document, failed=status != 200)
