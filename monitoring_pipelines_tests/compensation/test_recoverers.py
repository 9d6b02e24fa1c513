"""Where lost outputs are found again: JSON columns, events, placeholders, order and patience (R §5, R-310)."""

from __future__ import annotations

import json

import pytest

from monitoring_pipelines.compensation.approve import approve
from monitoring_pipelines.compensation.model import RepairRefused
from monitoring_pipelines.compensation.recoverers.asking import Pacer
from monitoring_pipelines.compensation.recoverers.documents import walk
from monitoring_pipelines.config import load_settings
from monitoring_pipelines.errors import ConfigError
from monitoring_pipelines.state import repair as store

RH = "{id: rh, kind: http_result, preset: runninghub, base_url_env: RH_URL, api_key_env: RH_KEY, allow_http: true}"


def recoverers(shop, *lines, more=""):
    path = shop.directory / "monitoring.yaml"
    path.write_text(path.read_text().replace(f"recoverers: [{RH}]", f"recoverers: [{', '.join(lines)}]{more}"))
    shop.settings = load_settings(path)


def found(shop, plan):
    with shop.state.read() as con:
        return {
            i["task_key"]: (i["class"], i["recoverer_id"], [r["uri"] for r in i["rows"]])
            for i in store.get_items(con, plan["plan_id"])
        }


def test_outputs_in_a_json_column_of_the_task_come_first_and_the_service_is_asked_for_the_others(shop):
    shop.db.execute("alter table tasks add column result json")
    shop.task("inside")
    shop.task("Inside")
    shop.task("outside")
    document = {"files": [{"link": "https://f.example/in.png", "kind": "png", "step": 3, "bytes": "12"}]}
    shop.db.execute("update tasks set result = %s where task_id = 'inside'", [json.dumps(document)])
    shop.db.execute("update tasks set result = '{}' where task_id = 'Inside'")
    recoverers(shop, "{id: own, kind: task_json, column: result, path: $.files, fields: {uri: link, type: kind, node: step, size: bytes}}", RH)  # fmt: skip
    plan = shop.plan()
    items = found(shop, plan)
    assert items["inside"] == ("eligible", "own", ["https://f.example/in.png"])
    assert items["outside"][:2] == ("eligible", "rh")
    assert items["Inside"][:2] == ("eligible", "rh")
    assert sorted(shop.api.asked) == ["r-Inside", "r-outside"]


def test_a_document_of_more_than_a_megabyte_is_not_read(shop):
    shop.db.execute("alter table tasks add column result longtext")
    shop.task("t", remote=None)
    shop.db.execute("update tasks set result = concat('[\"', repeat('x', 1100000), '\"]')")
    recoverers(shop, "{id: own, kind: task_json, column: result}")
    assert found(shop, shop.plan())["t"][0] == "remote_no_output"


def test_outputs_in_events_by_json_and_by_expression(shop):
    shop.db.execute(
        "create table task_logs (id int auto_increment primary key, task_id varchar(50), kind varchar(20), message text)"
    )
    shop.task("j", remote=None)
    shop.task("m", remote=None)
    shop.task("n", remote=None)
    event = json.dumps({"outputs": [{"uri": "https://f.example/j.png", "type": "png"}]})
    shop.db.executemany(
        "insert into task_logs (task_id, kind, message) values (%s, %s, %s)",
        [("j", "saved", event), ("j", "other", event.replace("j.png", "x.png")), ("J", "saved", event),
         ("m", "saved", "saved https://f.example/m.png as png")],
    )  # fmt: skip
    recoverers(
        shop, "{id: ev, kind: task_event, table: task_logs, column: message, type_column: kind, type: saved, path: outputs}",
        r"{id: re, kind: task_event, table: task_logs, column: message, regex: 'saved (?P<uri>\S+) as (?P<type>\w+)'}",
    )  # fmt: skip
    items = found(shop, shop.plan())
    assert items["j"] == ("eligible", "ev", ["https://f.example/j.png"])
    assert items["m"] == ("eligible", "re", ["https://f.example/m.png"])
    assert items["n"][:2] == ("remote_no_output", "re")


def test_placeholders_need_permission_and_an_approval_of_their_own_and_never_count_as_outputs(shop):
    shop.task("t", remote=None)
    line = "{id: ph, kind: static, placeholder: {uri: 'https://f.example/none/{task_key}', media_type: none}}"
    recoverers(shop, line)
    with pytest.raises(RepairRefused) as refused:
        shop.plan()
    assert refused.value.code == "placeholder_not_allowed"
    recoverers_allowed = (
        (shop.directory / "monitoring.yaml").read_text().replace("repair:\n", "repair:\n  allow_placeholder: true\n", 1)
    )
    (shop.directory / "monitoring.yaml").write_text(recoverers_allowed)
    shop.settings = load_settings(shop.directory / "monitoring.yaml")
    plan = shop.plan()
    with pytest.raises(RepairRefused) as refused:
        approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob")
    assert refused.value.code == "placeholder"
    approve(shop.settings, shop.state, shop.clock, plan["plan_id"], "bob", placeholders=True)
    assert shop.applier().apply(plan["plan_id"], "carl")["counters"]["rows_inserted"] == 1
    assert shop.plan()["before"] == {"settled": 1, "with_output": 0, "rate_pct": 0.0}


def test_the_rate_is_kept_and_a_slow_caller_gets_no_burst():
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(round(seconds, 6))
        now[0] += seconds

    pacer = Pacer(5, sleep, lambda: now[0])
    for _ in range(3):
        pacer.wait()
    assert slept == [0.2, 0.2]
    now[0] += 10
    pacer.wait()
    pacer.wait()
    assert slept == [0.2, 0.2, 0.2]


def test_an_unencrypted_service_needs_allow_http(shop):
    recoverers(shop, RH.replace(", allow_http: true", ""))
    shop.task("t")
    with pytest.raises(ConfigError, match="not https"):
        shop.plan()


@pytest.mark.parametrize(
    ("path", "value"),
    [("a.b", 1), ("$.list[1]", 2), ("list[7]", None), ("a.b.c", None), ("missing", None), (None, ...)],
)
def test_paths_into_documents(path, value):
    document = {"a": {"b": 1}, "list": [1, 2]}
    assert walk(document, path) == (document if value is ... else value)
