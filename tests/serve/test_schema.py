"""The service answers what its OpenAPI document says, whatever is sent: a short run of schemathesis, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.serve.live import live

SMALL = {"max_pixels": 2**14, "max_side": 512, "max_steps": 3, "max_upload": 300_000}


EXAMPLES = settings(
    max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
)
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    with live(tmp_path_factory.mktemp("store"), **SMALL) as (url, _):
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("mode", [*schemathesis.GenerationMode])
def test_every_answer_is_documented(schema: schemathesis.BaseSchema, mode: schemathesis.GenerationMode) -> None:
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @EXAMPLES
        def ask(case: schemathesis.Case) -> None:
            answer = case.call(timeout=60)
            assert answer.status_code < 500, answer.text
            case.validate_response(answer, checks=CHECKS)

        with suppress(Unsatisfiable):  # nothing can be wrong with what takes nothing
            ask()
            tried.add(operation.label)
    assert len(tried) > 15


def test_events_are_what_the_document_says(schema: schemathesis.BaseSchema) -> None:
    """Also those that come only where a render was made, which few cases do."""
    small = {"model": "toy", "prompt": "islands", "size": "64x64", "steps": 1}

    def told(method: str, path: str, **sent: Any) -> list[str]:
        case = schema[path][method].Case(**sent)
        answer = case.call(timeout=60)
        assert answer.headers["content-type"][0].startswith("text/event-stream")
        case.validate_response(answer, checks=[response_schema_conformance])
        return [line for line in answer.text.splitlines() if line.startswith("event:")]

    asked = {"body": {**small, "stream": True, "partial_images": 1}, "media_type": "application/json"}
    assert told("POST", "/v1/images/generations", **asked)[-1] == "event: image_generation.completed"
    made = {"body": small, "query": {"stream": "true"}, "media_type": "application/json"}
    assert told("POST", "/v1/renders", **made)[-1] == "event: finished"
