"""``mp docs``: documents made from what is stored.

What belongs here: options and output. What does not: the documents (``quality.expectations``).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cyclopts import App

from monitoring_pipelines.cli.context import Ctx, Whole
from monitoring_pipelines.errors import UsageError

app = App(name="docs", help="Documents made from what is stored.", help_format="plaintext")


@app.command
def expectations(*, out: Path, hours_back: Whole = 24, ctx: Ctx) -> int:
    """Judge the last hours with the expectation suites and write the results as web pages (Data Docs).

    The pages need no server and fetch nothing from the internet.

    Args:
        out: Folder for the pages; index.html is the first.
        hours_back: Length of the window, 1 to 720.
        ctx: Global options.
    """
    import duckdb

    from monitoring_pipelines.pipeline import Pipeline
    from monitoring_pipelines.quality import expectations as gx
    from monitoring_pipelines.quality.suites import SUITES

    if not 1 <= hours_back <= 720:
        raise UsageError(f"--hours-back must be from 1 to 720, not {hours_back}")
    pipe = Pipeline.of(ctx.settings, ctx.clock)
    now = pipe.clock.now()
    window = (now - timedelta(hours=hours_back), now)
    batches = []
    for source in ctx.sources():
        for suite in SUITES.values():
            with pipe.warehouse.reader("expectations") as con:
                try:
                    batch = gx.read_batch(con, suite, source.id, *window, now, ctx.settings.checks.settle_s)
                except duckdb.CatalogException:  # the table was not computed yet
                    continue
            batches.append((suite, batch))
    written = gx.write_docs(batches, gx.bands_of(ctx.settings), str(out))
    ctx.emit({"suites": written, "index": str(out / "index.html")}, f"{written} suites; open {out / 'index.html'}")
    return 0
