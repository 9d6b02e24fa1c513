"""``mp demo``: a simulated platform, the pipeline over it, and the Dagster UI, in one command.

What belongs here: the order of steps and what the user is told. What does not: the simulation (``demo``), the pipeline
(``pipeline``), keeping servers running (``supervise``).
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring_pipelines.cli.context import Whole
from monitoring_pipelines.cli.supervise import Supervisor, check_port
from monitoring_pipelines.cli.up import (
    DEFAULT_PORT,
    OptionalContext,
    level_of,
    one_instance,
    page_of,
    prepare,
    prepare_storage,
    run_services,
    say,
)
from monitoring_pipelines.demo.layout import mark_ready
from monitoring_pipelines.errors import UsageError

if TYPE_CHECKING:
    from monitoring_pipelines.compensation.fake_api import FakeResultApi
    from monitoring_pipelines.config import Settings
    from monitoring_pipelines.demo import World
    from monitoring_pipelines.demo.layout import DemoFolder
    from monitoring_pipelines.demo.scale import Scale
    from monitoring_pipelines.quality.model import CheckRun

DEFAULT_PAGE_PORT = 8787
#: More than this and the first run takes longer than anybody waits for a demonstration.
_MOST_DAYS = 400.0
_PAGES = {
    "how data flows": "/asset-groups",
    "statistics per hour": "/assets/mart/endpoint_hourly_stats?view=partitions",
    "proof of equality": "/assets/audit/reconciliation?view=partitions",
    "runs": "/runs",
}


def demo(
    *,
    days: float = 3.0,
    seed: Whole = 7,
    dir: Path = Path("demo"),  # noqa: A002 - the option is called --dir
    live: bool | None = None,
    mysql_dsn_env: str | None = None,
    serve: bool = True,
    host: str = "127.0.0.1",
    port: Whole = DEFAULT_PORT,
    page_port: Whole = DEFAULT_PAGE_PORT,
    load: float = 1.0,
    fresh: bool = False,
    ctx: OptionalContext = None,
) -> int:
    """Simulate a platform with seeded faults, run the pipeline over it, then serve the Dagster UI with live traffic.

    Args:
        days: Days of history to simulate before now.
        seed: The same seed gives the same platform.
        dir: Folder for everything the demo writes. An earlier demo in it goes on if it was made with the same options
            and is not older than two days; otherwise it is replaced.
        live: Let the platform go on in real time afterwards. Default: while serving. With --no-serve: until Ctrl-C.
        mysql_dsn_env: Environment variable with a MySQL or MariaDB DSN to write the platform to, instead of SQLite
            files. Tables of the same names in its schema are replaced.
        serve: Serve the Dagster UI at the end.
        host: Address of the page and the Dagster UI.
        port: Port of the Dagster UI.
        page_port: Port of the page.
        load: Traffic and workers relative to the standard demo.
        fresh: Begin anew even if an earlier demo could go on.
        ctx: Global options.
    """
    if not 0.05 <= days <= _MOST_DAYS:
        raise UsageError(f"--days {days:g} is out of range", hint=f"0.05 to {_MOST_DAYS:g} days can be simulated")
    if not 0.05 <= load <= 100:
        raise UsageError(f"--load {load:g} is out of range", hint="0.05 to 100 is possible")
    if serve:
        check_port(host, port, "the Dagster UI")  # before minutes of work, not after
        check_port(host, page_port, "the page", "--page-port")
    for home in (dir / "dagster", dir / "data" / "dagster"):  # of `mp demo`, and of `mp up` over its configuration
        if (home / "up.lock").exists():
            with one_instance(home):
                pass  # nobody serves this folder
    options = {"days": days, "seed": seed, "load": load}
    made = _go_on(dir, options) if serve and not fresh and mysql_dsn_env is None else None
    folder, world = made or _build(days, seed, dir, mysql_dsn_env, load)
    try:
        checked = None
        if made is None:
            checked = _first_run(folder)
            if mysql_dsn_env is None:
                mark_ready(folder, options)
            say(f"\nEverything of this demo is in {folder.root}; delete the folder to be rid of it.")
        say(f"  configuration   {folder.config}")
        say(f"  ground truth    {folder.truth}")
        if serve:
            return _serve(folder, world, host, (port, page_port), live is not False, level_of(ctx), checked)
        if live:
            return _only_live(world)
    finally:
        world.close()
    return 0


def _go_on(root: Path, options: dict[str, Any]) -> tuple[DemoFolder, World] | None:
    """The earlier demo in ``root``, at the state its traffic had reached; what was missed since is written now."""
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.demo.layout import earlier_demo
    from monitoring_pipelines.demo.world import World, sqlite_writers

    now = current_clock().now()
    found = earlier_demo(root, options, now)
    if found is None:
        return None
    say(f"Going on with the demo in {found.folder.root} (--fresh begins anew) …")
    world = World(
        options["days"], options["seed"], _scale(options["load"]), found.now,
        sqlite_writers(found.folder.source, again=True),
    )  # fmt: skip
    world.replay(found.reached)
    say(f"  {world.advance(now):,} rows for the time since {found.reached:%Y-%m-%d %H:%M:%S} UTC")
    return found.folder, world


def _scale(load: float) -> Scale:
    from monitoring_pipelines.demo.scale import STANDARD

    return replace(
        STANDARD,
        tasks_per_minute=STANDARD.tasks_per_minute * load,
        workers=max(STANDARD.endpoints, round(STANDARD.workers * load)),
    )


def _build(days: float, seed: int, root: Path, dsn_env: str | None, load: float) -> tuple[DemoFolder, World]:
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.demo.generate import generate
    from monitoring_pipelines.demo.layout import prepare_folder, write_configuration

    dsn = None
    if dsn_env is not None:
        dsn = os.environ.get(dsn_env)
        if not dsn:
            raise UsageError(
                f"environment variable {dsn_env} is not set",
                hint=f"export {dsn_env}=mysql://user:password@host:3306/demo",
            )
    scale = _scale(load)
    now = current_clock().now().replace(microsecond=0)
    folder = prepare_folder(root, seed, days, now)
    where = "the server named by " + dsn_env if dsn_env else "SQLite files"
    say(f"Simulating {days:g} days of five platforms into {where} (seed {seed}) …")
    result = generate(days, seed, now, scale=scale, folder=None if dsn else folder.source, mysql_dsn=dsn)
    result.world.truth().write_parquet(folder.truth)
    write_configuration(folder, now, (dsn_env, dsn) if dsn_env and dsn else None, days=days)
    _journal(folder)
    say(f"  {result.rows:,} rows in {result.seconds:.1f} s ({result.rows_per_second:,.0f} rows/s)")
    return folder, result.world


def _journal(folder: DemoFolder) -> None:
    """Create the repair journal beside the demo's tables, as ``mp repair init`` does."""
    from monitoring_pipelines.compensation.grants import create_journal
    from monitoring_pipelines.config import load_settings

    settings = load_settings(folder.config)
    dsn = settings.source("tktool").repair_dsn()
    assert dsn is not None
    create_journal(settings, dsn)


def _first_run(folder: DemoFolder) -> CheckRun:
    """Load everything, compute all statistics and check them, exactly as the schedules do it later."""
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.demo.first_run import first_run

    settings = load_settings(folder.config)
    say("First load: reading the sources, computing statistics …")
    started = time.perf_counter()
    done = first_run(settings, current_clock(), lambda line: say(f"  {line}"))
    say(f"  done in {time.perf_counter() - started:.1f} s")
    _summary(settings)
    return done.checked


_TOTALS = """
select
    source_id,
    count(distinct endpoint) as endpoints,
    sum(tasks_submitted) as submitted,
    sum(tasks_completed) as completed,
    sum(tasks_failed) as failed,
    sum(tasks_timeout) as timed_out,
    sum(tasks_retried) as retried
from mart.endpoint_hourly_stats
group by source_id
order by source_id
"""
_ANOMALIES = (
    "select source_id, kind, sum(count) from raw.anomaly group by source_id, kind order by 3 desc, 1, 2 limit 12"
)


def _summary(settings: Settings) -> None:
    """What the first run found, straight from the warehouse."""
    from monitoring_pipelines.warehouse.connect import Warehouse

    with Warehouse(settings.warehouse_path).reader() as con:
        totals = con.execute(_TOTALS).fetchall()
        anomalies = con.execute(_ANOMALIES).fetchall()
        minutes = con.execute("select count(*) from mart.endpoint_minute_stats").fetchone()
    say(f"\nFound ({minutes[0] if minutes else 0:,} minute rows):")
    for source, endpoints, *counts in totals:
        numbers = [f"{int(c):,}" if c is not None else "–" for c in counts]
        words = ("submitted", "completed", "failed", "timed out", "retried")
        listed = ", ".join(f"{number} {word}" for number, word in zip(numbers, words, strict=True))
        say(f"  {source:<11} {endpoints} endpoints: {listed}")
    if anomalies:
        say("  irregularities in the source data, counted and kept, not hidden:")
        for source, kind, count in anomalies:
            say(f"    {count:>7,}  {kind} ({source})")


def _serve(
    folder: DemoFolder, world: World, host: str, ports: tuple[int, int], live: bool, level: str,
    checked: CheckRun | None,
) -> int:  # fmt: skip
    file, home = prepare(folder.config, folder.dagster_home)
    port, page = ports[0], page_of(file, host, ports[1])
    stop = threading.Event()
    threads = [_live_thread(world, stop, folder)] if live else []

    api = _result_api(file)

    def end_threads() -> None:
        stop.set()
        if api is not None:
            api.stop()
        for thread in threads:
            thread.join(timeout=10)

    with one_instance(home):
        say(
            f"\nStarting the page on http://{host}:{page[1]} and Dagster on http://{host}:{port}"
            + (", live traffic continues …" if live else " …")
        )
        prepare_storage(home)
        threads.append(_known_partitions_thread(file, home, stop, checked))
        # The part behind # stays in the browser: no server log ever holds the token.
        token = folder.page_token
        entry = f"/login#token={token.read_text('utf-8').strip()}" if token.exists() else ""
        return run_services(file, home, host, port, level, page=page, entry=entry, on_stop=end_threads, pages=_PAGES)


def _result_api(config: Path) -> FakeResultApi | None:
    """The service that repair asks for lost files."""
    from monitoring_pipelines.config import load_settings
    from monitoring_pipelines.demo.result_api import serve

    url = next((r.base_url for r in load_settings(config).repair.recoverers if r.base_url), None)
    api = serve(url) if url else None
    if api is not None:
        say("\nSome tasks of tktool lost their files; they can be repaired:")
        say("  on the page     the alert about tasks without output → Rows → Make a repair plan → Approve → Apply")
        say(f"  in a shell      mp --config {config} --source tktool repair plan --hours 24")
    elif url:
        say(f"The result service cannot listen at {url}; repair will find nothing until it can.")
    return api


def _only_live(world: World) -> int:
    stop = threading.Event()
    thread = _live_thread(world, stop, None)
    say("\nLive traffic continues; Ctrl-C ends it.")

    def end_traffic() -> None:
        stop.set()
        thread.join(timeout=10)

    return Supervisor([], say, end_traffic).run()


def _known_partitions_thread(
    config: Path, home: Path, stop: threading.Event, checked: CheckRun | None
) -> threading.Thread:
    """The first run was none of Dagster's: tell it what is there, while its servers start."""

    def report() -> None:
        from monitoring_pipelines.clock import current_clock
        from monitoring_pipelines.config import load_settings
        from monitoring_pipelines.orchestration.known_partitions import report_to_home
        from monitoring_pipelines.pipeline import Pipeline

        report_to_home(home, Pipeline.of(load_settings(config), current_clock()), stop, checked)

    thread = threading.Thread(target=report, name="known partitions", daemon=True)
    thread.start()
    return thread


def _live_thread(world: World, stop: threading.Event, folder: DemoFolder | None) -> threading.Thread:
    """Traffic in real time; ``folder`` remembers how far it got."""
    from monitoring_pipelines.clock import current_clock
    from monitoring_pipelines.demo.layout import mark_reached

    def remember() -> None:
        if folder is not None:
            mark_reached(folder, world.now)

    thread = threading.Thread(
        target=world.follow, args=(current_clock(), stop),
        kwargs={"on_error": lambda text: say(f"platform  | {text}"), "on_step": remember},
        name="demo platform", daemon=True,
    )  # fmt: skip
    thread.start()
    return thread
