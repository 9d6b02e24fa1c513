"""Random histories of a whole platform on a real server: every family, late rows and commits, changes, deletions.

What belongs here: tables, their mapping and what may happen in a minute. What does not: the pipeline and expectations.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from monitoring_pipelines_tests.support.mysql_server import TestDatabase

DDL = """
create table t (id bigint auto_increment primary key, k varchar(64) unique, ep varchar(64), st varchar(20), w varchar(20),
  c datetime(3), s datetime(3), e datetime(3), u datetime(3), exp int default 1, del int default 0, key (c), key (e));
create table ev (id bigint auto_increment primary key, k varchar(64), ep varchar(64), ty varchar(20), at datetime(3),
  w varchar(20), key (at));
create table o (id bigint auto_increment primary key, k varchar(64), uri varchar(200), size bigint, c datetime(3),
  del int default 0, key (k), key (c));
create table w (id bigint auto_increment primary key, k varchar(64) unique, ep varchar(64), st varchar(20), cc int,
  c datetime(3), r datetime(3), x datetime(3), cold bigint, hb datetime(3));
create table we (id bigint auto_increment primary key, k varchar(64), ty varchar(20), at datetime(3), key (at));
create table ws (id bigint auto_increment primary key, k varchar(64), at datetime(3), idle int, gpu decimal(5,2), gm int,
  gt int, key (at));
create table j (id bigint auto_increment primary key, job_id varchar(64) unique, sla double, enabled int);
create table r (id bigint auto_increment primary key, rk varchar(64) unique, job_id varchar(64), sch datetime(3),
  s datetime(3), e datetime(3), ms decimal(20,3), oc varchar(20), key (s), key (e));
create table p (id bigint auto_increment primary key, pid varchar(64), at datetime(3), rss bigint, cpu double, key (at));
create table i (id bigint auto_increment primary key, pid varchar(64), ser varchar(64), at datetime(3), kind varchar(20),
  v decimal(38,6), key (at));
create table n (id bigint auto_increment primary key, ch varchar(30), st varchar(20), att int, c datetime(3),
  snt datetime(3), lat decimal(20,3), key (c));
"""
MAPPING = """min_output_bytes: 10
timezone: {zone}
tables:
  task: {{table: t, row_id: id, key: k, deleted_when: "del = 1", columns: {{endpoint: ep, status: {{column: st, map:
    {{Q: queued, R: running, OK: succeeded, BAD: failed, TO: timed_out, CA: cancelled}}}}, worker_key: w, created_at: c,
    started_at: s, ended_at: e, updated_at: u, output_expected: exp}}}}
  task_event: {{table: ev, row_id: id, key: id, columns: {{task_key: k, endpoint: ep, event_type: ty, at: at, worker_key: w}}}}
  task_output: {{table: o, row_id: id, key: id, deleted_when: "del = 1", columns: {{task_key: k, uri: uri, size_bytes: size,
    created_at: c}}}}
  worker: {{table: w, row_id: id, key: k, columns: {{endpoint: ep, status: st, concurrency: cc, created_at: c, ready_at: r,
    terminated_at: x, cold_start_ms: cold, last_heartbeat_at: hb}}}}
  worker_event: {{table: we, row_id: id, key: id, columns: {{worker_key: k, event_type: ty, at: at}}}}
  worker_snapshot: {{table: ws, row_id: id, key: id, columns: {{worker_key: k, at: at, is_idle: idle, gpu_utilization: gpu,
    gpu_memory_used_mb: gm, gpu_memory_total_mb: gt}}}}
  job: {{table: j, row_id: id, key: job_id, columns: {{sla_seconds: sla, enabled: enabled}}}}
  job_run: {{table: r, row_id: id, key: rk, columns: {{job_id: job_id, scheduled_at: sch, started_at: s, ended_at: e,
    duration_ms: ms, outcome: oc}}}}
  process_sample: {{table: p, row_id: id, columns: {{process_id: pid, at: at, rss_bytes: rss, cpu_pct: cpu}}}}
  ingest_counter: {{table: i, row_id: id, columns: {{process_id: pid, series: ser, at: at, kind: kind, value: v}}}}
  notification: {{table: n, row_id: id, key: id, columns: {{channel: ch, state: {{column: st, map: {{PENDING: pending,
    SENT: sent, FAILED: failed}}}}, attempts: att, created_at: c, sent_at: snt, latency_ms: lat}}}}
"""
EVENTS = (
    "queued", "assigned", "assigned", "assigned", "started", "completed", "completed", "failed", "timeout", "cancelled",
    "orphaned", "requeued", "info",
)  # fmt: skip
FINAL = ("OK", "BAD", "TO", "CA")
ENDPOINTS, WORKERS = ("a", "A", "b"), ("p", "q", "s", "z")


class RandomHistory:
    """A platform on which random things happen; equal seeds give equal histories."""

    def __init__(self, db: TestDatabase, rng: random.Random) -> None:
        db.execute("set sql_mode = ''")
        db.script(DDL)
        self.db, self.rng = db, rng
        self.tasks: dict[str, str] = {}
        #: Open transactions, and in how many steps each commits.
        self.open: list[tuple[int, Any]] = []
        self.kinds: list[Callable[[datetime], None]] = [
            *[self.task] * 4, *[self.event] * 6, *[self.output] * 3, *[self.worker] * 3, *[self.snapshots] * 4,
            self.worker_event, *[self.job_run] * 2, *[self.sample] * 2, self.notification, *[self.deletion] * 2,
        ]  # fmt: skip

    def step(self, now: datetime) -> None:
        """Some things happen; some earlier transactions commit."""
        self.commit()
        for _ in range(self.rng.randint(4, 10)):
            self.rng.choice(self.kinds)(now)

    def commit(self, *, everything: bool = False) -> None:
        """Let time pass for open transactions."""
        still = []
        for steps, connection in self.open:
            if steps > 1 and not everything:
                still.append((steps - 1, connection))
            else:
                connection.commit()
                connection.close()
        self.open = still

    def at(self, now: datetime) -> datetime:
        """An instant not after ``now``, in the platform's own milliseconds, often a whole second or minute."""
        back = self.rng.choice([60, 60, 200, 200, 600, 1800, 5400])
        unit = self.rng.choice([1, 1000, 60_000])
        then = now - timedelta(milliseconds=self.rng.randint(0, back * 1000 // unit) * unit)
        return then.replace(second=0, microsecond=0) if self.rng.random() < 0.15 else then

    def insert(self, table: str, **values: Any) -> None:
        """One row, sometimes in a transaction that commits steps later."""
        names = ", ".join(f"`{name}`" for name in values)
        sql = f"insert into {table} ({names}) values ({', '.join(['%s'] * len(values))})"
        if self.rng.random() >= 0.08 or table in ("t", "w"):
            self.db.execute(sql, list(values.values()))
            return
        connection = self.db.connect(autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(sql, list(values.values()))
        self.open.append((self.rng.randint(1, 2), connection))

    def task(self, now: datetime) -> None:
        """A new task, or another status of one; final rows seldom change."""
        pick = self.rng.choice
        if not self.tasks or self.rng.random() < 0.4:
            key = f"T{len(self.tasks)}"
            self.tasks[key] = "Q"
            made = self.at(now)
            self.insert(
                "t", k=key, ep=pick(ENDPOINTS), st="Q", w=pick([*WORKERS, None]), c=made, u=made, exp=pick([1, 1, 0])
            )
            return
        key, status = pick(list(self.tasks)), pick(["R", "OK", "OK", "BAD", "TO", "CA", "Q", "??"])
        if self.tasks[key] in FINAL and self.rng.random() < 0.7:
            return
        self.tasks[key] = status
        ended = self.at(now) if status in FINAL and self.rng.random() < 0.85 else None
        started = self.at(now) if self.rng.random() < 0.4 else None
        self.db.execute("update t set st = %s, e = %s, u = %s, s = coalesce(s, %s) where k = %s",
                        (status, ended, ended or now, started, key))  # fmt: skip

    def event(self, now: datetime) -> None:
        """A few events of a task, known or not."""
        key, at = self.rng.choice([*list(self.tasks)[-8:], "ghost"]), self.at(now)
        for _ in range(self.rng.randint(1, 3)):
            self.insert("ev", k=key, ep=self.rng.choice([*ENDPOINTS, None]), ty=self.rng.choice(EVENTS), at=at,
                        w=self.rng.choice([*WORKERS, None, ""]))  # fmt: skip
            at = min(now, at + timedelta(seconds=self.rng.choice([0, 1, 10, 60, 120])))

    def output(self, now: datetime) -> None:
        """An output, or a change of one."""
        if self.rng.random() < 0.35:
            change = self.rng.choice(["del = 1", "size = 5", "k = 'T1'"])
            self.db.execute(f"update o set {change} order by rand(%s) limit 1", (self.rng.randint(0, 10**6),))
            return
        made = self.at(now) if self.rng.random() < 0.9 else None
        self.insert("o", k=self.rng.choice([*self.tasks, "orphan"]), uri=f"s3://b/{self.rng.randint(1, 3)}",
                    size=self.rng.choice([None, 0, 9, 10, 500]), c=made)  # fmt: skip

    def worker(self, now: datetime) -> None:
        """A worker appears, ends, lives again, moves or beats."""
        key, pick = self.rng.choice(WORKERS), self.rng.choice
        ready = self.at(now)
        self.db.execute("insert ignore into w (k, ep, st, cc, c, r, cold, hb) values (%s, %s, 'online', %s, %s, %s, %s, %s)",
                        (key, pick(ENDPOINTS), pick([1, 1, 3]), ready, pick([ready, ready, None]), pick([None, 0, 1234]), now))  # fmt: skip
        changes: list[tuple[str, list[Any]]] = [
            ("x = %s, st = 'offline'", [self.at(now)]), ("x = null, r = %s, st = 'online'", [self.at(now)]),
            ("cc = %s", [pick([1, 2, 5, None])]), ("ep = %s", [pick(ENDPOINTS)]),
            ("hb = %s, st = %s", [now - timedelta(seconds=pick([0, 5, 100, -700])), pick(["online", "busy", "draining"])]),
        ]  # fmt: skip
        sql, values = pick(changes)
        self.db.execute(f"update w set {sql} where k = %s", [*values, key])

    def worker_event(self, now: datetime) -> None:
        """One event of a worker."""
        kind = self.rng.choice(["registered", "offline", "task_pulled", "status_change"])
        self.insert("we", k=self.rng.choice(WORKERS), ty=kind, at=self.at(now))

    def snapshots(self, now: datetime) -> None:
        """A run of samples of one worker, with gaps and repetitions."""
        key, at, pick = self.rng.choice(WORKERS), self.at(now), self.rng.choice
        for _ in range(self.rng.randint(1, 5)):
            off = self.rng.random() < 0.2
            self.insert("ws", k=key, at=at, idle=pick([0, 1, 1, None]), gpu=0 if off else pick([None, 12.34, 99.99]),
                        gm=0 if off else pick([None, 100]), gt=0 if off else 80_000)  # fmt: skip
            at = min(now, at + timedelta(seconds=pick([0, 30, 60, 180, 200])))

    def job_run(self, now: datetime) -> None:
        """A run begins or ends, or the job's limit changes."""
        pick, at = self.rng.choice, self.at(now)
        self.db.execute("insert into j (job_id, sla, enabled) values (%s, %s, 1) on duplicate key update sla = values(sla)",
                        (pick("JK"), pick([None, 1, 5])))  # fmt: skip
        outcome = pick(["success", "failure", "timeout", "missed", "skipped", "running"])
        self.db.execute("update r set oc = 'success', e = %s where oc = 'running' order by id limit 1", (at,))
        self.insert("r", rk=f"r{self.rng.randint(0, 10**9)}", job_id=pick("JK"), sch=at,
                    s=None if outcome in ("missed", "skipped") else at, ms=pick([None, 0, 1000, 5001.5]), oc=outcome,
                    e=self.at(now) if outcome in ("success", "failure", "timeout") else None)  # fmt: skip

    def sample(self, now: datetime) -> None:
        """A sample of a process and a counter of an ingest series."""
        pick = self.rng.choice
        self.insert("p", pid="P", at=self.at(now), rss=pick([None, 2**53 + 1, 10]), cpu=pick([None, 33.335]))
        self.insert(
            "i", pid="P", ser=pick("xy"), at=self.at(now), kind=pick(["ok", "ok", "error"]), v=self.rng.randint(0, 500)
        )

    def notification(self, now: datetime) -> None:
        """A notification is made; an older one is delivered."""
        sent = self.at(now)
        self.db.execute("update n set st = 'SENT', att = 1, snt = %s, lat = 120 where st = 'PENDING' limit 1", (sent,))
        self.insert("n", ch=self.rng.choice(["sms", "SMS"]), st="PENDING", att=0, c=self.at(now))

    def deletion(self, now: datetime) -> None:
        """A row of any table vanishes, or a task is marked as deleted."""
        table = self.rng.choice(["t", "ev", "ws", "we", "w", "r", "p", "i", "n", "o"])
        rows = self.db.execute(f"select id from {table} order by id")
        if rows:
            soft = table == "t" and self.rng.random() < 0.4
            what = "update t set del = 1" if soft else f"delete from {table}"
            self.db.execute(f"{what} where id = %s", self.rng.choice(rows))
