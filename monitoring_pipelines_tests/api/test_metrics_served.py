"""``/metrics`` as a Prometheus server sees it."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from sqlalchemy import text

from monitoring_pipelines.api.routes.compat_scheduler import chosen_scope
from monitoring_pipelines.api.routes.metrics import collector_of
from monitoring_pipelines.api.services import Services
from monitoring_pipelines.clock import FixedClock
from monitoring_pipelines.metrics.exposition import Family
from monitoring_pipelines.metrics.from_state import delivery_families
from monitoring_pipelines.quality.model import CheckOutcome, CheckRun
from monitoring_pipelines.state import StateStore, checks, heartbeats, store, tables
from monitoring_pipelines_tests.support.postgres_server import PostgresServer

from .conftest import NOW, Client, Serve, make_settings
from .stored import fill
from .world import World

SOURCES = [
    {"id": "shop", "preset": "waverless", "read_dsn_env": "SHOP_DSN"},
    {"id": "sched", "preset": "scheduler", "read_dsn_env": "SHOP_DSN"},
]


@pytest.fixture
def client(serve: Serve) -> Client:
    client = serve({"sources": SOURCES})
    rows = World(client.settings, client.clock)
    rows.source()
    rows.source("sched")
    rows.job("nightly", 'Billing "A" \\ B', source="sched")
    rows.job_run("nightly", "success", 1234.5, source="sched")
    for n in range(3):
        rows.task(f"t{n}", ago=n * timedelta(hours=1))
    rows.publish()
    return client


def test_the_linter_of_prometheus_finds_nothing(client: Client) -> None:
    if shutil.which("promtool") is None and os.environ.get("ALLOW_SKIP") == "1":
        pytest.skip("promtool is not installed")
    text = client.get("/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_job_families_have_their_labels_in_order_and_durations_two_decimals(client: Client) -> None:
    text = client.get("/api/v1/scheduler/metrics/prometheus").text
    labels = '{job_id="nightly",job_name="nightly",owner="",category="Billing \\"A\\" \\\\ B"}'
    assert f"scheduler_job_success_total{labels} 1\n" in text
    assert f"scheduler_job_duration_p95_ms{labels} 1234.50\n" in text
    assert f"scheduler_job_last_duration_ms{labels} 1234.50\n" in text
    assert "mp_" not in text


#: Families a filled store must have samples of, so that the comparison below is one of many kinds of values.
FILLED = {
    "mp_endpoint_tasks_total", "mp_tasks_active", "mp_ingest_messages_total", "mp_process_resident_memory_bytes",
    "mp_tasks_missing_outputs", "mp_alerts", "mp_component_heartbeat_timestamp_seconds", "mp_extract_lag_seconds",
    "mp_store_bytes", "mp_anomalies_total", "scheduler_notification_success_total", "scheduler_job_success_total",
}  # fmt: skip
INGESTED = """INSERT INTO mart.ingest_daily_stats (source_id, process_id, series, stat_date, increase, state)
VALUES ('shop', 'p', $s, $d, 1.25, 'closed')"""
ANOMALY = """INSERT INTO raw.anomaly (source_id, kind, entity, key, "at", first_seen_at, count)
VALUES ('shop', $s, 'task', 'k', $d, $d, 3)"""


def filled(client: Client) -> None:
    """Rows of every kind, with label values that have to be escaped, jobs without owner among them."""
    fill(client.settings, client.clock)
    rows, day = World(client.settings, client.clock), NOW.replace(hour=0) - timedelta(days=1)
    for n, name in enumerate(('sum "A" \\ B', "two\nlines", "夜间 é", " x,y={} # ")):
        rows.job(f"j{n}", name, source="sched", name=name)
        rows.job_run(f"j{n}", "success", 10.005 + n / 3, source="sched")
        rows.job_run(f"j{n}", "failure", 1e7, source="sched")
        rows.hour(name, NOW - timedelta(hours=1))
        rows.sample(name, NOW - timedelta(minutes=n))
        rows.messages(name, day, ok=3, failed=n, latency_ms=12.25, p95_ms=30)
        rows.write(
            (INGESTED, {"s": name, "d": day}),
            World._changed("mart.ingest_daily_stats", day),
            (ANOMALY, {"s": name, "d": day}),
        )
    rows.task("open", "running")
    rows.publish()


def written(family: Family) -> tuple[str, str, str, set[tuple[str, tuple[tuple[str, str], ...], float]]]:
    """A family as parsers should read it; labels in their order, numbers as they are to be rounded (S-302)."""
    name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
    samples = {
        (family.name, tuple(zip(family.labels, values, strict=True)),
         float(number) if family.digits is None else round(float(number), family.digits))
        for values, number in family.samples
    }  # fmt: skip
    assert len(samples) == len(family.samples)
    return name, family.kind, family.help, samples


def read(found: Any) -> tuple[str, str, str, set[tuple[str, tuple[tuple[str, str], ...], float]]]:
    """The same of a family of the library."""
    samples = [(one.name, tuple(one.labels.items()), one.value) for one in found.samples]
    assert len(set(samples)) == len(samples)
    assert {(one.timestamp, one.exemplar) for one in found.samples} <= {(None, None)}
    return found.name, found.type, found.documentation, set(samples)


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/scheduler/metrics/prometheus"])
@pytest.mark.parametrize("kind", ["text/plain", "application/openmetrics-text"])
def test_the_library_reads_every_sample_that_is_exported_and_no_other(client: Client, path: str, kind: str) -> None:
    """S-301 to S-305, of a filled store, in both formats: names, types, texts, labels in their order, values."""
    filled(client)
    services = Services.of(client.settings, client.clock)
    try:
        collector = collector_of(services)
        if path == "/metrics":
            families = collector.everything()
            assert {one.name for one in families if one.samples} >= FILLED
        else:
            with services.published.look() as look:
                of_jobs, _ = collector._jobs(look, base_units=False, names=chosen_scope(services, None))
                families = [*of_jobs, *delivery_families(services.state, look)]
            assert all(one.samples for one in families)
    finally:
        services.close()
    labels = ("job_id", "job_name", "owner", "category")
    assert families[0].labels == (labels if "scheduler" in path else (*labels, "source"))  # there are our own jobs, too
    parse = (parser if kind == "text/plain" else openmetrics_parser).text_string_to_metric_families
    wanted, found, until = [written(one) for one in families], [], time.monotonic() + 20
    while found != wanted and time.monotonic() < until:  # just after a publication the version before may be answered
        answer = client.request("GET", path, headers={"Accept": kind})
        assert answer.headers["content-type"].startswith(kind)
        found = [read(one) for one in parse(answer.text)]
        time.sleep(0.05)
    assert found == wanted


def test_durations_are_seconds_with_at_most_six_digits_of_fraction(client: Client) -> None:
    """S-302: two decimals of a millisecond and more, and no tails that the division of floats leaves."""
    filled(client)
    state = StateStore.of(client.settings)
    posts = [
        {"notification_id": "N1", "attempt_no": n, "channel": "ops", "at": NOW, "ok": True, "latency_ms": ms}
        for n, ms in enumerate((10.0, 10.0, 11.0))
    ]
    with state.begin() as con:
        con.execute(tables.notification_attempt.insert(), posts)
    state.dispose()
    seconds = r"^(\w+_seconds)(?:\{.*\})? (\S+)$"
    found = re.findall(seconds, client.get("/metrics").text, re.MULTILINE)
    assert {
        "mp_alert_notification_latency_seconds",
        "scheduler_job_duration_p95_seconds",
        "mp_extract_lag_seconds",
    } <= {name for name, _ in found}
    assert not [(name, value) for name, value in found if len(value.partition(".")[2]) > 6]


def test_what_is_not_known_is_not_exported(client: Client) -> None:
    text = client.get("/metrics").text
    assert 'mp_tasks_active{source="shop"} 0\n' in text  # measured zero
    assert "mp_slots_limit{" not in text  # nothing configured
    assert "mp_completion_rate_percent{" not in text  # no check has run


def test_completeness_of_a_window_is_not_that_of_a_check_by_hand_over_another(client: Client) -> None:
    """S-322, S-411: the rules for Prometheus page by ``window="24h"``."""
    state, hour = StateStore.of(client.settings), timedelta(hours=1)
    for run_id, hours, rate, at in (("day", 24, 95.0, NOW - hour), ("by hand", 1, 40.0, NOW)):
        values = {"completion_rate_value": rate, "success_tasks": 100}
        outcome = CheckOutcome("shop", "missing_outputs", "findings", at - hours * hour, at, metrics=values)
        run = checks.start(
            state, CheckRun(run_id, "full", "manual", "running", at, at, None, at - hours * hour, at, hours)
        )
        checks.finish(state, replace(run, status="issues_detected", ended_at=at, outcomes=(outcome,)))
    state.dispose()
    found = re.findall(r"^mp_completion_rate_percent(.*)$", client.get("/metrics").text, re.MULTILINE)
    assert found == ['{source="shop",window="24h"} 95']


def test_an_endpoint_that_was_idle_for_hours_keeps_its_gauges_and_its_stamp(serve: Serve) -> None:
    """M-110, S-321: counts of its last minute are known zeros, rates are not known; a day without a trace ends it."""
    client = serve({"sources": SOURCES})
    rows = World(client.settings, client.clock)
    rows.source()
    closed = client.clock.now().replace(second=0, microsecond=0)
    end = int(closed.replace(tzinfo=UTC).timestamp())
    for endpoint, ago in (("busy", 1), ("idle", 180), ("gone", 25 * 60)):
        rows.minute(endpoint, closed - timedelta(minutes=ago))
        rows.hour(endpoint, (closed - timedelta(minutes=ago)).replace(minute=0))
    # What its rows have ever had a value of is measured.
    rows.write(("UPDATE mart.endpoint_hourly_stats SET queue_depth_end = 2 WHERE endpoint = 'idle'", {}))
    rows.publish()
    text = client.get("/metrics").text
    stamps = re.findall(r"^mp_endpoint_stats_timestamp_seconds\{.*endpoint=\"(\w+)\"\} (\d+)$", text, re.MULTILINE)
    assert stamps == [("busy", str(end)), ("idle", str(end))]
    assert 'mp_endpoint_queue_depth{source="shop",endpoint="idle"} 0\n' in text
    assert 'mp_endpoint_success_rate_percent{source="shop",endpoint="idle"}' not in text
    assert 'mp_endpoint_active_workers{source="shop",endpoint="idle"}' not in text  # no row ever knew it


def test_openmetrics_on_request(client: Client) -> None:
    answer = client.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    assert "# TYPE mp_late_events counter" in answer.text


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/scheduler/metrics/prometheus"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_caches_are_told_that_the_format_follows_accept_and_the_form_accept_encoding(
    client: Client, path: str, encoding: str, accept: str
) -> None:
    answer = client.request("GET", path, headers={"Accept": accept, "Accept-Encoding": encoding})
    assert answer.headers["content-type"].startswith(accept.partition(";")[0])
    assert sorted(answer.headers["vary"].split(", ")) == ["Accept", "Accept-Encoding"]
    plain = client.request("GET", "/api/v1/scheduler/metrics", headers={"Accept-Encoding": encoding})
    assert plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/scheduler/metrics/prometheus", "/api/v1/scheduler/metrics"])
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_compressed_answers_are_the_plain_ones_for_every_version_of_the_files(
    client: Client, path: str, accept: str
) -> None:
    def of_files(text: str) -> list[str]:
        """What stands in the published files; ages and sizes, which change between two scrapes, are not among it."""
        return [line for line in text.splitlines() if not line.startswith("mp_")]

    rows, before = World(client.settings, client.clock), ""
    for n in range(3):
        headers = {"Accept": accept}
        # Who asks while a version is being written out gets the one before.
        until = time.monotonic() + 20
        while of_files(client.request("GET", path, headers=headers).text) == of_files(before):
            assert time.monotonic() < until, f"version {n} of the files was not served within 20 s"
            time.sleep(0.05)
        small = [client.request("GET", path, headers=headers | {"Accept-Encoding": "gzip"}) for _ in range(2)]
        whole = client.request("GET", path, headers=headers | {"Accept-Encoding": "identity"})
        assert [answer.headers.get("content-encoding") for answer in (*small, whole)] == ["gzip", "gzip", None]
        assert small[0].text == small[1].text == whole.text != before
        assert small[0].headers["content-type"] == whole.headers["content-type"]
        assert "Accept-Encoding" in small[0].headers["vary"]
        before = whole.text
        rows.job_run("nightly", "failure", 10.0 * n, source="sched")
        rows.publish()


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_a_version_that_leaves_jobs_alone_is_compressed_whole_all_the_same(client: Client, accept: str) -> None:
    def scraped(encoding: str) -> str:
        return client.request("GET", "/metrics", headers={"Accept": accept, "Accept-Encoding": encoding}).text

    rows = World(client.settings, client.clock)
    for n in range(3):
        until = time.monotonic() + 20
        while f'mp_tasks_active{{source="shop"}} {n}\n' not in scraped("gzip"):
            assert time.monotonic() < until, f"{n} open tasks were not served within 20 s"
            time.sleep(0.05)
        text = scraped("gzip")
        assert text == scraped("identity")
        assert text.count("# TYPE scheduler_job_success") == 1
        rows.task(f"open{n}", "running")
        rows.publish()


def test_a_scrape_shows_what_was_just_written_to_the_state_store(client: Client) -> None:
    state = StateStore.of(client.settings)
    for second in (1, 2, 3):
        with state.begin() as con:
            heartbeats.beat(con, f"extract{second}", 60.0, NOW)
        text = client.get("/metrics").text
        assert f'mp_component_heartbeat_timestamp_seconds{{component="extract{second}"}} ' in text
    state.dispose()


def test_figures_of_jobs_are_304_for_whoever_has_them_and_new_after_a_message(client: Client) -> None:
    path = "/api/v1/scheduler/metrics"
    first = client.get(path)
    tag = {"If-None-Match": first.headers["etag"]}
    same = client.request("GET", path, headers=tag)
    assert (same.status_code, same.content) == (304, b"")
    rows = World(client.settings, client.clock)
    rows.job_run("nightly", "failure", 10.0, source="sched")
    rows.publish()
    assert client.request("GET", path, headers=tag).json()["data"]["metrics"][0]["failure_count"] == 1


def test_what_was_exported_is_written_down_once_the_store_can_be_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-303: somebody else holds the state store while a counter falls in the files; a restart after that shows it as it was."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 200)
    settings, clock = make_settings(tmp_path, monkeypatch, {"sources": SOURCES[1:]}), FixedClock(NOW)
    rows = World(settings, clock)
    rows.source("sched")

    def exported(services: Services) -> str:
        return collector_of(services).scheduler_text(["sched"]).whole().decode()

    services = Services.of(settings, clock)
    for job, runs in (("i", 1), ("j", 3)):  # what was exported of j is not written down before a minute has passed
        for n in range(runs):
            rows.job_run(job, "success", 10, ago=timedelta(minutes=n + 1), source="sched")
        rows.publish()
        line = f'scheduler_job_success_total{{job_id="{job}",job_name="{job}",owner="",category=""}} {runs}\n'
        assert line in exported(services)
    rows.write(
        ("DELETE FROM raw.job_run WHERE run_key = 'j3'", {}), ("INSERT INTO meta.publish_job VALUES ('sched', 'j')", {})
    )
    rows.publish()
    with closing(sqlite3.connect(str(services.state.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert line in exported(services)  # a scrape goes on; what could not be written down is still known
        other.execute("ROLLBACK")
    assert line in exported(services)
    services.close()
    after = Services.of(settings, clock)
    assert line in exported(after)
    after.close()


def test_a_state_store_that_hangs_leaves_its_families_as_they_were_and_says_so(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    """Somebody holds a table and lets nobody read it: the scrape is answered meanwhile, and is up to date afterwards."""
    with postgres.database() as url:
        monkeypatch.setenv("STATE_URL", url)
        client = serve({"sources": SOURCES, "state": {"url_env": "STATE_URL"}})
        rows = World(client.settings, client.clock)
        rows.source()
        rows.task("t", ago=timedelta(hours=1))
        rows.publish()
        state = StateStore.of(client.settings)
        beats = "mp_component_heartbeat_timestamp_seconds"

        def beat(component: str) -> None:
            with state.begin() as con:
                heartbeats.beat(con, component, 60.0, NOW)

        beat("extract")
        assert "mp_state_store_up 1\n" in client.get("/metrics").text
        with state.begin() as con:
            con.execute(text("LOCK TABLE component_heartbeat IN ACCESS EXCLUSIVE MODE"))
            for _ in range(2):
                scrape = client.get("/metrics")
                assert scrape.status_code == 200
                assert "mp_state_store_up 0\n" in scrape.text
                assert f'{beats}{{component="extract"}} ' in scrape.text
                assert 'mp_extract_lag_seconds{source="shop"} ' in scrape.text  # of the published files
        beat("aggregate")
        until = time.monotonic() + 20
        while f'{beats}{{component="aggregate"}} ' not in (scrape := client.get("/metrics")).text:
            assert time.monotonic() < until, scrape.text
            time.sleep(0.05)
        assert "mp_state_store_up 1\n" in scrape.text
        state.dispose()
