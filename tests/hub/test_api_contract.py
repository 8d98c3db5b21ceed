"""Random requests made from the OpenAPI document: no crash, nothing that it does not say.

Longer: ``LINESIDE_API_EXAMPLES=200 pytest -n0 tests/hub/test_api_contract.py``.
"""

import os
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.hub.conftest import Line
from tools.manual import document

Pictures = Callable[..., bytes]
EXAMPLES = int(os.environ.get("LINESIDE_API_EXAMPLES", "3"))  # noqa: TID251  the tests' own switch
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
AWAY = (501, 503)  # what a hub says that lacks a setting, a library or its other side
BASE = "http://127.0.0.1"
OURS = ("authorization", "cookie")  # the client signs in with its own token
ENDLESS = "/api/v1/twin/live"  # a stream that ends with the session
SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_random_requests_get_documented_answers(
    mode: GenerationMode, client: TestClient, line: Line, jpeg: Pictures
) -> None:
    line.send(line.camera(jpeg("blue")), line.status(), line.prediction("blue"))
    client.event_hooks["response"] = []
    failures = list(chain.from_iterable(asked(one, mode, client=client) for one in OPERATIONS))
    assert not failures, "\n\n".join(failures)


def asked(operation: Any, mode: GenerationMode, *, client: TestClient) -> Iterator[str]:  # noqa: ANN401  of schemathesis
    """Ask an operation; what was wrong with an answer."""
    if operation.path == ENDLESS:
        return

    @seed(7)
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:  # noqa: ANN401  of schemathesis
        made: Any = requests.Request(**case.as_transport_kwargs(base_url=BASE)).prepare()
        headers = {name: text for name, text in made.headers.items() if name.lower() not in OURS}
        response = client.request(made.method, made.url, headers=headers, content=made.body)
        checks = CHECKS if response.status_code in AWAY else [not_a_server_error, *CHECKS]
        case.validate_response(response, checks=checks)

    try:
        ask()
    except Unsatisfiable:
        return  # nothing that it takes can be wrong
    except BaseExceptionGroup as group:
        yield f"{operation.label}: {group}: {'; '.join(map(str, group.exceptions))}"
