"""Expectation suites as checks of deep runs: rows are what they must be.

What belongs here: giving a suite the window of a run. What does not: suites (``quality.suites``) and running them
(``quality.expectations``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring_pipelines.quality import expectations
from monitoring_pipelines.quality.suites import SUITES

if TYPE_CHECKING:
    from monitoring_pipelines.quality.context import CheckContext
    from monitoring_pipelines.quality.model import CheckOutcome


def suite(ctx: CheckContext) -> CheckOutcome:
    """The suite named by the check's id; the warehouse is given back before rows are judged."""
    import duckdb

    wanted = SUITES[ctx.check.id.removeprefix(expectations.PREFIX)]
    try:
        batch = expectations.read_batch(
            ctx.session.con,
            wanted,
            ctx.source.id,
            ctx.window_from,
            ctx.window_to,
            ctx.now,
            ctx.settings.checks.settle_s,
        )
    except duckdb.CatalogException:
        return ctx.outcome("insufficient_data", message="these statistics have not been computed yet")
    ctx.session.close()
    return expectations.judge(wanted, batch, ctx.source.id, ctx.bands, ctx.now)
