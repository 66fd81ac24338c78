"""GET /metrics: the names are right by Prometheus' own tool, and the figures are those of what was done to the server."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.parse
from pathlib import Path

import pytest

from harness import Process, connect_many, expect_all, free_port, http_request, wait_until
from harness.metrics import counter, gauge, samples


def publish(server):
    reply = server.publish("t", {"n": 1})
    assert reply.status == 200, reply


@pytest.mark.sanitize
async def test_what_was_done_is_counted(opald):
    server = opald(workers=2)

    clients = await connect_many(server.port, 6, "t")
    assert await clients[0].subscribe("u")
    for _ in range(3):
        await asyncio.to_thread(publish, server)
    await expect_all(clients, 3)
    assert server.request("GET", "/nowhere").status == 404
    assert server.request("GET", "/data/config").status == 200
    await asyncio.to_thread(wait_until, lambda: gauge(server, "subscriptions") == 7, 5, "seven subscriptions")
    await asyncio.to_thread(wait_until, lambda: gauge(server, "clients") == 6, 5, "six clients")
    assert gauge(server, "connections") >= 6
    assert gauge(server, "workers_ready") == 2
    assert counter(server, "events", direction="published") == 3
    assert counter(server, "events", direction="from_backbone") == 0
    assert counter(server, "event_bytes", direction="published") > 3 * 20
    assert counter(server, "deliveries") == 18
    assert counter(server, "http_responses", route="/data/config", method="POST", status="200") == 3
    assert counter(server, "http_responses", route="/data/config", method="GET", status="200") == 1
    assert counter(server, "http_responses", route="", method="", status="404") == 1
    assert counter(server, "http_responses", route="/ws", method="GET", status="101") == 6
    assert gauge(server, "fanout_duration_seconds_count") == 6  # three events, two workers
    assert 0 < gauge(server, "fanout_duration_seconds_sum") < 5
    assert gauge(server, "fanout_duration_seconds_bucket", le="+Inf") == 6
    assert gauge(server, "ring_lag_bytes") <= gauge(server, "ring_capacity_bytes")
    for client in clients:
        await client.close()


def test_counters_never_go_back_when_a_worker_dies(opald):
    server = opald(workers=2)
    publish(server)
    before = {key: value for key, value in samples(server).items() if key[0].endswith("_total")}
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    wait_until(lambda: counter(server, "workers_died") == 1 and gauge(server, "workers_ready") == 2, 10, "the next worker")
    after = samples(server)
    assert {key: (value, after[key]) for key, value in before.items() if after[key] < value} == {}
    assert counter(server, "workers_started") == 3


def test_gap_of_the_backbone(opald, own_kafka, topic):
    server = opald(broadcast_uri=own_kafka.uri, channel=topic)
    wait_until(lambda: gauge(server, "backbone_up") == 1, 20, "the backbone")
    publish(server)
    wait_until(lambda: counter(server, "backbone_events_acknowledged") == 1, 10, "the acknowledgement")
    assert counter(server, "events", direction="to_backbone") == 1
    assert counter(server, "event_bytes", direction="to_backbone") > 20
    before = gauge(server, "backbone_gap_seconds_total")
    own_kafka.stop()
    wait_until(lambda: gauge(server, "backbone_up") == 0, 20, "the gap")
    wait_until(lambda: gauge(server, "backbone_gap_seconds_total") > before + 0.3, 5, "a gap that grows")


def test_names_by_prometheus_rules(opald):
    """promtool looks at names, units, types and help texts."""
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed")
    server = opald(broadcast_uri="kafka+mock://", channel="c")
    publish(server)
    server.request("GET", "/nowhere")
    text = server.request("GET", "/metrics").text
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stderr.strip() == "", checked.stderr
    # each family once
    names = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert len(names) == len(set(names))


# ---------------------------------------------------------------- what deploy/ gives to who watches
MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
INSTANT = "2m"  # in place of Grafana's $__rate_interval


def dashboard_queries():
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def alert_queries():
    return re.findall(r"^ +expr: (.+)$", (MONITORING / "alerts.yml").read_text(), re.M)


def test_queries_name_what_the_server_shows(opald):
    """Every metric and label in the dashboard and in the alerts is there in a running server's answer."""
    server = opald(broadcast_uri="kafka+mock://", channel="c")
    publish(server)
    wait_until(lambda: gauge(server, "workers_ready") == 1, 5, "the worker")
    shown = {}
    for name, labels in samples(server):
        shown.setdefault(name, set()).update(label for label, _ in labels)
    queries = [query for _, query in dashboard_queries()] + alert_queries()
    assert len(queries) > 40
    for query in queries:
        names = re.findall(r"\bopald_[a-z_]+", query)
        assert names, query
        for name in names:
            assert name in shown, f"{name} in {query}"
        for grouped in re.findall(r"\bby \(([^)]*)\)", query):
            for label in re.findall(r"[a-z_]+", grouped):
                assert label == "instance" or any(label in shown[name] for name in names), f"{label} in {query}"


def test_prometheus_answers_every_query(opald, tmp_path):
    """A real Prometheus scrapes a running server and finds no fault with a query; nearly all have an answer at once."""
    prometheus = shutil.which("prometheus")
    promtool = shutil.which("promtool")
    if not prometheus or not promtool:
        pytest.skip("prometheus is not installed")
    server = opald(broadcast_uri="kafka+mock://", channel="c")
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s}}\nrule_files: ['{MONITORING / 'alerts.yml'}']\n"
        f"scrape_configs:\n- job_name: opald\n  static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]\n")
    watcher = Process("prometheus", [prometheus, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
                                     f"--web.listen-address=127.0.0.1:{port}"], tmp_path)
    try:
        def ask(query):
            reply = http_request(port, "GET", "/api/v1/query?query=" + urllib.parse.quote(query))
            return reply.status, reply.json()

        def answered(query):
            try:
                return ask(query)[1]["data"]["result"]
            except (OSError, KeyError, ValueError):  # it is still starting
                return None

        wait_until(lambda: answered("count_over_time(opald_build_info[1m]) > 2"), 30, "three scrapes")
        without = []
        for title, query in dashboard_queries() + [("alert", query) for query in alert_queries()]:
            status, body = ask(query.replace("$__rate_interval", INSTANT).replace("$instance", ".*"))
            assert status == 200 and body["status"] == "success", (title, query, body)
            if title != "alert" and not body["data"]["result"]:
                without.append(query)
        assert without == []
        assert subprocess.run([promtool, "check", "rules", MONITORING / "alerts.yml"], capture_output=True).returncode == 0
    finally:
        watcher.kill()
