"""``mp targets`` and ``mp prometheus-rules``: who is watched, and the same rules for a Prometheus server (S-606, S-360).

What belongs here: showing and retiring expectations. What does not: judging them (``alerts.rules``).
"""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from monitoring_pipelines.cli.context import Context, Ctx
from monitoring_pipelines.cli.output import table, write
from monitoring_pipelines.errors import UsageError

targets = App(
    name="targets", help="Targets, processes and series that are expected to go on.", result_action="return_value"
)


@targets.command(name="list")
def list_targets(*, kind: str | None = None, ctx: Ctx) -> int:
    """Show everything that was seen once and is expected to go on (C-440), and how it is. Exit code 1 if one is down.

    Args:
        kind: Only target, process or series.
        ctx: Global options.
    """
    from monitoring_pipelines.state.expectations import listed

    rows = listed(_store(ctx), ctx.settings, ctx.clock.now(), kind, ctx.source or None)
    ctx.emit(rows, lambda: _text(rows))
    return 1 if any(row["health"] in ("unhealthy", "unknown") and row["retired_at"] is None for row in rows) else 0


@targets.command(name="retire")
def retire(name: str, *, kind: str | None = None, ctx: Ctx) -> int:
    """Stop expecting a target, process or series: its alerts end. It is expected again when it is seen again.

    Args:
        name: Its name as `mp targets list` shows it.
        kind: target, process or series, if the name is used for several.
        ctx: Global options.
    """
    from monitoring_pipelines.state.expectations import retire as end

    done = end(_store(ctx), name, kind, ctx.source or None, ctx.clock.now())
    if not done:
        raise UsageError(f"nothing called {name!r} is expected", "see `mp targets list`")
    ctx.emit(
        {"retired": done}, "\n".join(f"retired: {row['kind']} {row['name']} of {row['source_id']}" for row in done)
    )
    return 0


def prometheus_rules(
    *,
    metric: Annotated[str | None, Parameter(name="--metric")] = None,
    job: str = "collector",
    ctx: Ctx,
) -> int:
    """Write the rule file for a Prometheus server, with the thresholds of the configuration.

    Args:
        metric: Counter of messages the collector has published.
        job: Prometheus job of the collector.
        ctx: Global options.
    """
    from monitoring_pipelines.alerts.rules.prometheus import PUBLISHED, render

    write(render(ctx.settings, metric or PUBLISHED, job).rstrip("\n"))
    return 0


def _store(ctx: Context) -> Any:
    from monitoring_pipelines.state import StateStore

    return StateStore.of(ctx.settings)


def _text(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing was seen yet; probes and scrapes are configured under `probes` and `scrapes`"
    shown = [
        [r["source_id"], r["kind"], r["name"], r["health"] or "-", r["last_seen_at"], r["age_s"], r["retired_at"]]
        for r in rows
    ]
    return table(["source", "kind", "name", "health", "last seen", "age s", "retired"], shown)
