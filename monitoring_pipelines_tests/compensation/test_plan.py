"""Planning against a real server and a real result service (R-301…R-313, R-501)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from monitoring_pipelines.compensation.model import HASHED_ITEM_COLUMNS, RepairRefused, plan_hash
from monitoring_pipelines.config.inspection import surplus_grants
from monitoring_pipelines.errors import UsageError
from monitoring_pipelines.pipeline import Pipeline
from monitoring_pipelines.quality import runs
from monitoring_pipelines.state import repair as store
from monitoring_pipelines_tests.compensation.platform import DAY, NOW


def items(shop, plan):
    with shop.state.read() as con:
        return {item["task_key"]: item for item in store.get_items(con, plan["plan_id"])}


def classes(shop, plan):
    return {key: item["class"] for key, item in items(shop, plan).items()}


ANSWERS = {
    "eligible": [{"fileUrl": "https://f.example/a.png", "fileType": "png", "nodeId": "1"}],
    "remote_no_output": [],
    "remote_not_ready": None,
    "running": {"code": 804, "msg": "APIKEY_TASK_IS_RUNNING", "data": None},
    "queued": {"code": 813, "msg": "APIKEY_TASK_IS_QUEUED", "data": None},
    "remote_failed": {
        "code": 805,
        "data": {"failedReason": {"exception_message": "out of memory", "traceback": "secret"}},
    },
    "remote_not_found": {"code": 807, "data": None},
    "transient_error": {"code": 433, "data": None},
}


def test_every_answer_of_the_result_api_has_its_class_and_classes_add_up(shop):
    for name, answer in ANSWERS.items():
        shop.task(name)
        shop.api.results[f"r-{name}"] = answer
    shop.task("no_remote_id", remote=None)
    shop.task("empty_remote_id", remote="")
    plan = shop.plan()
    expected = {name: name for name in ANSWERS} | {"running": "remote_not_ready", "queued": "remote_not_ready"}
    expected |= {"no_remote_id": "no_remote_id", "empty_remote_id": "no_remote_id"}
    assert classes(shop, plan) == expected
    counters = plan["counters"]
    assert counters["candidates"] == sum(counters["classes"].values()) == counters["requested"] == 10
    assert counters["eligible"] == counters["rows_planned"] == 1
    failed = items(shop, plan)["remote_failed"]
    assert "out of memory" in failed["reason"]
    assert "secret" not in failed["reason"]
    assert items(shop, plan)["transient_error"]["tries"] == 3
    assert plan["state"] == "ready"


def test_candidates_are_settled_succeeded_undeleted_tasks_of_the_half_open_window_in_order(shop):
    start, end = DAY
    shop.task("at_start", ended=start)
    shop.task("before_start", ended=start - timedelta(milliseconds=1))
    shop.task("at_end", ended=end)
    shop.task("not_settled", ended=NOW - timedelta(seconds=299))
    shop.task("just_settled", ended=NOW - timedelta(seconds=300))
    shop.task("failed", status="FAILED")
    shop.task("running", status="RUNNING")
    shop.task("complete")
    shop.output("complete")
    shop.db.execute("insert into tasks values ('no_end', 'wf', 'SUCCESS', 'r-x', null, %s, null, null, null)", [start])
    plan = shop.plan()
    assert list(items(shop, plan)) == ["at_start", "no_end", "just_settled"]
    assert plan["before"] == {"settled": 4, "with_output": 1, "rate_pct": 25.0}


def test_order_is_by_end_then_binary_key_and_max_tasks_cuts_it(shop):
    for key in ("b", "B", "a", "é", "z"):
        shop.task(key)
    shop.task("first", ended=NOW - timedelta(hours=3))
    assert list(items(shop, shop.plan())) == ["first", "B", "a", "b", "z", "é"]
    assert list(items(shop, shop.plan(max_tasks=2))) == ["first", "B"]


def test_task_ids_are_exactly_those_whatever_the_window_and_others_are_listed(shop):
    shop.task("old", ended=NOW - timedelta(days=400))
    shop.task("failed", status="FAILED")
    shop.task("Case")
    plan = shop.plan(task_ids=("old", "failed", "case", "nowhere"))
    assert classes(shop, plan) == {"old": "eligible"}
    assert sorted(plan["unknown_ids"]) == ["case", "nowhere"]
    assert plan["rejected_ids"] == {"failed": "failed"}
    assert plan["counters"]["requested"] == 4


def test_an_empty_list_of_ids_is_an_error_not_all_tasks(shop):
    with pytest.raises(UsageError, match="empty"):
        shop.plan(task_ids=())


def test_add_missing_proposes_only_rows_whose_natural_key_is_absent(shop):
    shop.task("t", outputs=3)
    shop.output("t", 1)
    plan = shop.plan(mode="add_missing")
    assert [row["node_key"] for row in items(shop, plan)["t"]["rows"]] == ["9", "11"]
    assert shop.plan(mode="only_if_empty")["counters"]["candidates"] == 0


def test_a_signature_does_not_make_another_output(shop):
    shop.task("t")
    shop.output("t", 0)  # the same file under another signature
    plan = shop.plan(mode="add_missing")
    assert classes(shop, plan) == {"t": "already_present"}


def test_the_plan_shows_exactly_the_rows(shop):
    shop.task("t-1")
    shop.api.results["r-t-1"] = [
        {"fileUrl": "HTTPS://Cdn.Example.com:443/out/7/cat%201.png?sig=zz#top", "fileType": "PNG", "nodeId": None},
        {"fileUrl": "https://cdn.example.com/out/7/movie.MP4", "fileType": None, "nodeId": 12},
    ]
    first, second = items(shop, shop.plan())["t-1"]["rows"]
    assert first["values"] == {
        "task_id": "t-1", "node_id": "", "name": "cat 1.png", "file_url": "HTTPS://Cdn.Example.com:443/out/7/cat%201.png?sig=zz#top",
        "file_type": "png", "file_size": None, "local_path": None, "thumbnail_path": "", "created_at": "(apply time)",
    }  # fmt: skip
    assert (second["media_type"], second["node_key"], second["name"]) == ("mp4", "12", "movie.MP4")


@pytest.mark.parametrize(
    "entry",
    [
        {"fileUrl": "ftp://f.example/a.png", "fileType": "png"},
        {"fileUrl": "https:///a.png", "fileType": "png"},
        {"fileUrl": "https://f.example/" + "n" * 300 + ".png", "fileType": "png"},
        {"fileUrl": "https://f.example/a", "fileType": None},
        {"fileUrl": "https://f.example/a.png", "fileType": "x" * 51},
        {"fileUrl": "https://f.example/a.png", "fileType": "png", "fileSize": -1},
        {"fileUrl": "https://f.example/a.png", "fileType": "png", "nodeId": "n" * 51},
    ],
)
def test_one_bad_row_refuses_its_whole_task_and_no_other(shop, entry):
    shop.task("bad")
    shop.api.results["r-bad"] = [{"fileUrl": "https://f.example/good.png", "fileType": "png"}, entry]
    shop.task("good")
    assert classes(shop, shop.plan()) == {"bad": "validation_failed", "good": "eligible"}


def test_a_task_key_longer_than_the_output_tables_column_is_not_cut(shop):
    shop.task("k" * 40)
    plan = shop.plan()
    assert classes(shop, plan) == {"k" * 40: "validation_failed"}


def test_a_key_problem_aborts_at_once_and_nothing_is_called_without_output(shop):
    for n in range(4):
        shop.task(f"t{n}")
    shop.api.results["r-t1"] = {"code": 802, "data": None}
    plan = shop.plan()
    assert plan["state"] == "aborted"
    assert classes(shop, plan) == {"t0": "eligible", "t1": "auth_error", "t2": "not_reached", "t3": "not_reached"}
    assert shop.api.asked == ["r-t0", "r-t1"]
    assert plan["counters"]["candidates"] == sum(plan["counters"]["classes"].values()) == 4


@pytest.mark.parametrize("fault", ["garbage", "rate_limited", "server_error", "down", "unknown_code", "redirect"])
def test_trouble_is_transient_and_five_in_a_row_pause_the_plan(shop, fault):
    for n in range(7):
        shop.task(f"t{n}")
    shop.api.fault = fault
    plan = shop.plan()
    assert plan["state"] == "paused"
    assert list(classes(shop, plan).values()) == ["transient_error"] * 5 + ["not_reached"] * 2
    assert shop.api.calls == 15  # each task was tried three times and counts once


def test_trouble_that_passes_is_tried_again(shop):
    shop.task("t")
    shop.api.fault, shop.api.fault_first = "down", 2
    assert classes(shop, shop.plan()) == {"t": "eligible"}
    assert shop.api.calls == 3


def test_an_http_refusal_of_the_key_aborts_too(shop):
    shop.task("t")
    shop.api.fault = "auth_http"
    assert shop.plan()["state"] == "aborted"


def test_dead_links_are_found_when_planning(shop):
    text = (
        (shop.directory / "monitoring.yaml")
        .read_text()
        .replace("allow_http: true}", "allow_http: true, probe_links: true}")
    )
    (shop.directory / "monitoring.yaml").write_text(text)
    from monitoring_pipelines.config import load_settings

    shop.settings = load_settings(shop.directory / "monitoring.yaml")
    shop.task("alive")
    shop.task("dead")
    shop.api.results["r-alive"] = [{"fileUrl": shop.api.file_url("a.png") + "?sign=1", "fileType": "png"}]
    shop.api.results["r-dead"] = [{"fileUrl": shop.api.file_url("d.png"), "fileType": "png"}]
    shop.api.dead.add("/files/d.png")
    found = items(shop, shop.plan())
    assert found["alive"]["class"] == "eligible"
    assert found["alive"]["rows"][0]["evidence"]["link"] == "alive"
    assert (found["dead"]["class"], found["dead"]["reason"]) == ("remote_no_output", "link_expired")


def test_a_plan_holds_its_hash_over_every_item(shop):
    shop.task("a")
    shop.task("b")
    plan = shop.plan()
    with shop.state.read() as con:
        rows = [{n: i[n] for n in HASHED_ITEM_COLUMNS} for i in store.get_items(con, plan["plan_id"])]
    assert plan_hash(plan, rows) == plan["plan_hash"]
    rows[1]["rows"][0]["values"]["file_url"] += "x"
    assert plan_hash(plan, rows) != plan["plan_hash"]


def test_strict_reading_refuses_an_account_that_may_write(shop):
    shop.configure(source="strict_readonly: true")
    with pytest.raises(RepairRefused) as refused:
        shop.plan()
    assert refused.value.code == "surplus_grants"


def test_strict_reading_looks_into_roles_and_takes_an_account_that_only_reads(shop, monkeypatch):
    """A role that is not active now may be taken on at any time; MySQL and MariaDB show its rights only when asked."""
    shop.configure(source="strict_readonly: true")
    shop.task("t")
    db, server = shop.db.name, shop.db.server
    for statement in (
        "drop user if exists 'mp_reader'@'%'", "drop role if exists mp_writers, mp_all",
        "create user 'mp_reader'@'%' identified by 'pw'", f"grant select on {db}.* to 'mp_reader'@'%'",
    ):  # fmt: skip
        shop.db.execute(statement)
    monkeypatch.setenv("SHOP_READ", f"mysql://mp_reader:pw@{server.host}:{server.port}/{db}")
    assert shop.plan()["state"] == "ready"
    for statement in (
        "create role mp_writers", "create role mp_all", f"grant insert on {db}.* to mp_writers",
        "grant mp_writers to mp_all", "grant mp_all to 'mp_reader'@'%'",
    ):  # fmt: skip
        shop.db.execute(statement)
    with pytest.raises(RepairRefused) as refused:
        shop.plan()
    assert refused.value.code == "surplus_grants"
    assert f"INSERT ON `{db}`.*" in refused.value.message
    shop.db.execute("drop user 'mp_reader'@'%'")
    shop.db.execute("drop role mp_writers, mp_all")


@pytest.fixture
def reader(shop, monkeypatch):
    """Grants and takes away: a strict shop read by an account of its own that holds no right yet."""
    shop.configure(source="strict_readonly: true")
    shop.task("t")
    server = shop.db.server
    shop.db.execute("drop user if exists 'mp_reader'@'%'")
    shop.db.execute("create user 'mp_reader'@'%' identified by 'pw'")
    monkeypatch.setenv("SHOP_READ", f"mysql://mp_reader:pw@{server.host}:{server.port}/{shop.db.name}")
    yield shop
    shop.db.execute("drop user 'mp_reader'@'%'")


def refusal(shop, *statements: str) -> str:
    """Why a plan is refused after these grants."""
    for statement in statements:
        shop.db.execute(statement)
    with pytest.raises(RepairRefused) as refused:
        shop.plan()
    assert refused.value.code == "surplus_grants"
    return str(refused.value.message)


def test_strict_reading_takes_grants_on_single_columns_for_what_they_are(reader):
    """Reading some columns is reading; writing one column is writing."""
    db = reader.db
    columns = ", ".join(f"`{row[0]}`" for row in db.execute(
        "select column_name from information_schema.columns where table_schema = database() and table_name = 'tasks'"
    ))  # fmt: skip
    db.execute(f"grant select ({columns}) on {db.name}.tasks to 'mp_reader'@'%'")
    db.execute(f"grant select on {db.name}.task_outputs to 'mp_reader'@'%'")
    assert reader.plan()["state"] == "ready"
    why = refusal(reader, f"grant update (name, file_url) on {db.name}.task_outputs to 'mp_reader'@'%'")
    assert why.endswith(f"the reading account may write: UPDATE ON `{db.name}`.`task_outputs`")


def test_strict_reading_sees_what_every_account_may_do(reader):
    """MariaDB grants to PUBLIC; MySQL's mandatory roles, of which one may not exist, need not be active."""
    db, server = reader.db, reader.db.server
    db.execute(f"grant select on {db.name}.* to 'mp_reader'@'%'")
    db.execute("drop role if exists mp_everybody")
    if server.dialect == "mariadb":
        db.execute(f"grant insert on {db.name}.* to public")
        try:
            assert f"INSERT ON `{db.name}`.*" in refusal(reader)
        finally:
            db.execute(f"revoke insert on {db.name}.* from public")
    else:
        db.execute("create role mp_everybody")
        db.execute("set global mandatory_roles = 'mp_everybody, `no, such`@localhost'")
        try:
            assert reader.plan()["state"] == "ready"
            assert f"INSERT ON `{db.name}`.*" in refusal(reader, f"grant insert on {db.name}.* to mp_everybody")
        finally:
            db.execute("set global mandatory_roles = ''")
            db.execute("drop role mp_everybody")
    assert reader.plan()["state"] == "ready"


def test_strict_reading_is_not_fooled_by_a_partial_revoke(reader):
    """MySQL takes one schema out of a grant on all: writing elsewhere stays, and reading less is no right to write."""
    db = reader.db
    if db.server.dialect == "mariadb":
        assert "INSERT ON *.*" in refusal(reader, "grant select, insert on *.* to 'mp_reader'@'%'")
        return
    db.execute("set global partial_revokes = on")
    try:
        db.execute("grant select on *.* to 'mp_reader'@'%'")
        db.execute("revoke select on mysql.* from 'mp_reader'@'%'")
        assert reader.plan()["state"] == "ready"
        why = refusal(
            reader, "grant insert on *.* to 'mp_reader'@'%'", f"revoke insert on `{db.name}`.* from 'mp_reader'@'%'"
        )
        assert "INSERT ON *.*" in why
    finally:
        db.execute("revoke all privileges, grant option from 'mp_reader'@'%'")
        db.execute("set global partial_revokes = off")


def test_names_in_grants_may_hold_any_character():
    lines = [
        "GRANT USAGE ON *.* TO `r`@`%`", "GRANT `wr ON, TO x`@`%`,`b`@`%` TO `r`@`%`",
        "GRANT SELECT (`a, INSERT`, `b)`) ON `q TO r`.`t ON``u` TO `r`@`%`", "REVOKE INSERT ON `s`.* FROM `r`@`%`",
    ]  # fmt: skip
    assert surplus_grants(lines) == []
    assert surplus_grants(["GRANT SELECT, INSERT (`a`, `b`) ON `q TO r`.`t ON u` TO `r`@`%` WITH GRANT OPTION"]) == [
        "INSERT ON `q TO r`.`t ON u`", "GRANT OPTION ON `q TO r`.`t ON u`",
    ]  # fmt: skip


def test_a_column_that_nobody_fills_makes_planning_refuse(shop):
    shop.db.execute("alter table task_outputs add column owner int not null")
    shop.task("t")
    with pytest.raises(RepairRefused) as refused:
        shop.plan()
    assert refused.value.code == "insert_mapping"
    shop.configure(repair="insert: {owner: {const: 7}}")
    assert shop.plan()["counters"]["eligible"] == 1


def test_tables_that_cannot_be_rolled_back_are_refused(shop):
    shop.db.execute("alter table task_outputs engine = myisam")
    with pytest.raises(RepairRefused) as refused:
        shop.plan()
    assert refused.value.code == "not_transactional"


def test_no_key_and_no_signature_is_stored_beside_the_row_itself(shop):
    from monitoring_pipelines.compensation.fake_api import API_KEY
    from monitoring_pipelines.state.types import canonical_json

    shop.task("t")
    plan = shop.plan()
    assert API_KEY not in canonical_json([plan, items(shop, plan)])


def test_planning_writes_nothing_at_all_to_the_source(shop):
    for n in range(3):
        shop.task(f"t{n}")
    checksum = "checksum table tasks, task_outputs, unrelated"
    before = shop.db.execute(checksum)
    with shop.statement_log() as sent:
        shop.plan()
    ours = [text.lower() for text in sent]
    assert any(text.startswith("set session transaction read only") for text in ours)
    assert {text.split()[0] for text in ours} <= {"select", "set", "start", "show", "commit", "rollback"}
    assert shop.db.execute(checksum) == before


def test_a_task_a_plan_found_failed_remotely_is_a_status_mismatch_of_the_next_full_check(shop):
    """C-116: a locally succeeded task of class remote_failed, with the remote code."""
    shop.task("lost")
    shop.task("failed there")
    shop.api.results["r-failed there"] = ANSWERS["remote_failed"]
    assert classes(shop, shop.plan()) == {"lost": "eligible", "failed there": "remote_failed"}
    shop.clock.advance(60)
    run = runs.execute(Pipeline.of(shop.settings, shop.clock), shop.state, "full")
    (found,) = [one for one in run.findings if one.check_id == "status_mismatch"]
    assert (found.alert_type, found.severity, found.task_ids) == ("status_mismatch", "medium", ("failed there",))
    assert found.details == {"count": 1, "examples": [{"task": "failed there", "remote_code": "805"}]}
    shop.clock.advance(86400)
    later = runs.execute(Pipeline.of(shop.settings, shop.clock), shop.state, "full")
    assert {o.check_id: o.status for o in later.outcomes}["status_mismatch"] == "passed"
