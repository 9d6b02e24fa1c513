"""The sensor of the collectors: an evaluation by Dagster stores what was collected (E-124)."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dagster import build_sensor_context

from monitoring_pipelines.state import StateStore, collected


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status": "healthy"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_an_evaluation_asks_what_is_configured_and_samples_the_product(new_site, instance):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        with new_site.config.open("a") as file:
            file.write(f"probes: [{{target: page, url: 'http://127.0.0.1:{server.server_port}/'}}]\n")
        defs = new_site.defs()
        repository = defs.get_repository_def()
        sensor = repository.get_sensor_def("collect_sensor")
        assert sensor.minimum_interval_seconds == 15
        with build_sensor_context(instance, repository_def=repository, resources=dict(defs.resources)) as context:
            said = sensor.evaluate_tick(context)
    finally:
        server.shutdown()
        server.server_close()
    assert said.run_requests == []
    assert said.skip_message.startswith("1 targets asked")
    rows = collected.since(StateStore.of(new_site.settings), new_site.clock.now().replace(year=2020))
    assert {(row.source_id, row.entity) for row in rows} == {("collector", "probe_result"), ("_self", "process_sample")}


def test_without_targets_the_sensor_ticks_once_a_minute_for_the_product_itself(new_site):
    sensor = new_site.defs().get_repository_def().get_sensor_def("collect_sensor")
    assert sensor.minimum_interval_seconds == 60
