"""Messages against the AsyncAPI document of the bus."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from jsonschema import Draft7Validator

from lineside.cli.config import bus_document
from lineside.core import Plant
from lineside.links import Message


@cache
def _kinds(address: str) -> re.Pattern[str]:
    parts = re.split(r"({\w+})", address)
    return re.compile("".join("[^/]+" if one[:1] == "{" else re.escape(one) for one in parts))


@cache
def _own() -> dict[str, Any]:
    return bus_document(None)


@cache
def _validator(kind: str) -> Draft7Validator:
    return _validator_of(kind, document=_own())


def _validator_of(kind: str, *, document: dict[str, Any]) -> Draft7Validator:
    return Draft7Validator({**document, "$ref": f"#/components/messages/{kind}/payload"})


def validators(topic: str, *, plant: Plant | None = None) -> Iterator[tuple[str, Draft7Validator]]:
    """Channels of a topic, each with a validator of what is sent there; without plant our own."""
    document = bus_document(plant) if plant else _own()
    for name, channel in document["channels"].items():
        if _kinds(channel["address"]).fullmatch(topic):
            (kind,) = channel["messages"]
            own = _validator_of(kind, document=document) if plant else _validator(kind)
            yield name, own


def documented(messages: Iterable[Message], *, plant: Plant | None = None) -> set[str]:
    """Channels of the messages; fails on a topic without one and on a payload of another shape."""
    found = set[str]()
    for message in messages:
        names = dict(validators(message.topic, plant=plant))
        assert names, f"no channel for {message.topic}"
        for validator in names.values():
            if message.payload[:1] == b"{":  # else the bytes of an image
                validator.validate(json.loads(message.payload))
        found.update(names)
    return found
