"""Answers against the OpenAPI document."""

import json
import re
from functools import cache
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from tools.manual import document


@cache
def _operations() -> tuple[tuple[re.Pattern[str], dict[str, Any]], ...]:
    def pattern(path: str) -> re.Pattern[str]:
        wide = re.sub(r"\\{(path|key|identifier)\\}", ".+", re.escape(path))
        return re.compile(re.sub(r"\\{\w+\\}", "[^/]+", wide))

    return tuple((pattern(path), methods) for path, methods in document()["paths"].items())


@cache
def _validator(reference: str) -> Draft202012Validator:
    schema = {**json.loads(reference), "components": document()["components"]}
    return Draft202012Validator(schema)


def resolved(one: dict[str, Any]) -> dict[str, Any]:
    """What a reference names."""
    while "$ref" in one:
        found: Any = document()
        for part in one["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        one = found
    return one


def faults_of(value: object, schema: dict[str, Any]) -> list[str]:
    """Where a value is not as its schema says."""
    found = _validator(json.dumps(schema, sort_keys=True)).iter_errors(value)
    return [f"{error.json_path}: {error.message[:300]}" for error in found]


def require_documented(response: httpx2.Response) -> None:
    """Status, media type and shape of an answer of the API must be documented."""
    path, method = response.request.url.path, response.request.method.lower()
    methods = next((one for known, one in _operations() if known.fullmatch(path)), {})
    if method not in methods or response.status_code == 405:
        return
    where = f"{method} {path} {response.status_code}"
    answers = methods[method]["responses"]
    assert str(response.status_code) in answers, f"{where} is not documented"
    content = resolved(answers[str(response.status_code)]).get("content", {})
    response.read()
    if not content:
        assert not response.content, f"{where} has a body"
        return
    kind = response.headers["content-type"].partition(";")[0]
    assert kind in content, f"{where}: {kind} is none of {list(content)}"
    if kind.endswith("json") and "event-stream" not in content:
        faults = faults_of(response.json(), content[kind]["schema"])
        assert not faults, f"{where}: {faults[:3]}"
