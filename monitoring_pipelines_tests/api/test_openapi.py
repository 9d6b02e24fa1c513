"""A property-based tester finds no fault between ``/openapi.json`` and what the server answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from .conftest import Client, Serve
from .world import World

#: Requests per operation; the checks of schemathesis all apply.
EXAMPLES = 6


@pytest.fixture
def client(serve: Serve) -> Client:
    client = serve({"sources": [
        {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"},
        {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"},
    ]})  # fmt: skip
    rows = World(client.settings, client.clock)
    rows.source()
    rows.source("sched")
    rows.job("nightly", "Reports", source="sched")
    for n in range(5):
        rows.task(f"t{n}", ago=n * timedelta(hours=1), outputs=n % 2)
        rows.job_run("nightly", "success", 5, source="sched")
    rows.publish()
    return client


def test_the_document_describes_every_answer(client: Client) -> None:
    document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.base_url = client.url
    failed: list[str] = []
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        # Checks start a process of their own; they have tests of their own.
        if operation.method == "post" and operation.path.endswith(
            ("/checks/runs", "/data-consistency/check", "/repair/plans")
        ):
            continue
        tried += 1

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @schemathesis_given(operation)
        def one(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=left_out_of(case))

        try:
            one()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed.append(f"{operation.method.upper()} {operation.path}: {error}"[:1500])
    assert tried > 45
    assert not failed, "\n\n".join(failed)


def left_out_of(case: schemathesis.Case) -> list[Any]:
    """That one time is before another cannot be said in OpenAPI; such requests are 400 by S-104."""
    timed = {"from", "to", "date", "at"} & set(case.query or ()) or case.path.endswith("/silences")
    return [positive_data_acceptance] if timed else []


def schemathesis_given(operation: schemathesis.schemas.APIOperation):  # type: ignore[name-defined, no-untyped-def]
    from hypothesis import given, strategies

    modes = schemathesis.GenerationMode
    cases = strategies.one_of(
        operation.as_strategy(generation_mode=modes.POSITIVE), operation.as_strategy(generation_mode=modes.NEGATIVE)
    )
    return given(case=cases)
