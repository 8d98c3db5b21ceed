"""The OpenAPI document: complete, valid, and true of what the hub answers."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from lineside.core import RefusedError
from lineside.hub import Role
from lineside.hub.access.permissions import Identity, Right, authorize, is_open, roles_with
from tests.hub.openapi import faults_of, resolved
from tools.manual import document


def operations() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document()["paths"].items() for method, operation in methods.items()
    ]  # fmt: skip


OPERATIONS = operations()


def parts(value: object) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from parts(one)


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, answer in operation["responses"].items():
        for kind, media in resolved(answer).get("content", {}).items():
            yield f"{status} {kind}", media
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"body {kind}", media


@pytest.mark.parametrize(("name", "operation"), OPERATIONS)
def test_the_right_of_an_operation_is_the_one_that_the_hub_asks_for(
    name: str, operation: dict[str, Any]
) -> None:
    method, path = re.sub(r"\{[^}]*\}", "1", name).split()

    def passes(kind: str, role: Role | None = None) -> bool:
        with contextlib.suppress(RefusedError):
            authorize(Identity(name="x", kind=kind, role=role), method=method.upper(), path=path)
            return True
        return False

    needed, *others = operation["x-right"].split(" or ")
    assert "" not in (operation["summary"], operation["description"])
    assert ("a device" in others, "a token of kind ingest" in others) == (
        passes("device"), passes("ingest"),
    )  # fmt: skip
    assert is_open(path) == (needed not in [*Right])
    if not is_open(path):
        assert {role for role in Role if passes("api", role)} == {*roles_with(Right(needed))}


def test_it_is_openapi() -> None:
    faults = [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()]
    assert faults == []


def test_every_reference_resolves() -> None:
    references = [part["$ref"] for part in parts(document()) if isinstance(part.get("$ref"), str)]
    assert len(references) > 1000
    for reference in set(references):
        assert reference.startswith("#/components/")
        assert resolved({"$ref": reference})


@pytest.mark.parametrize(
    "operation", [one for _, one in OPERATIONS], ids=[name for name, _ in OPERATIONS]
)
def test_every_operation_has_answers_with_schema_and_example(operation: dict[str, Any]) -> None:
    good = {status: one for status, one in operation["responses"].items() if status < "300"}
    assert good, "no success"
    assert {"400", "401", "403", "404", "503"} <= set(operation["responses"])
    for where, media in bodies(operation):
        assert "schema" in media, where
        schema = media["schema"]
        if "json" in where and schema.get("format") != "binary" and not where.startswith("body"):
            assert "example" in media, where
        if "example" in media:
            assert faults_of(media["example"], schema) == [], where
