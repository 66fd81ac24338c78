"""A fleet on a Kafka cluster in trouble: two opald servers, an opal-server, their clients and publishers, and what is measured of them."""

import json
import os
import subprocess
import sys
import threading
import time
from bisect import bisect
from collections import Counter
from pathlib import Path

from .paths import VENV, scaled
from .process import clean_environment
from .servers import Reference

# A server that gets or sends nothing for so long must not say that it is ready.
READY_LIMIT = 12
# ... and nothing else came in this many seconds before and after.
CALM = 3
HEAD = f"{'scenario':<34} {'server':<9} {'lost':>5} {'twice':>5} {'old':>5} {'wrong':>5} {'ends':>5} {'gap s':>6} {'503 s':>6} {'false s':>7} {'lines/min':>9}"


class Row:
    """What the clients of one server saw in one scenario."""

    def __init__(self, scenario: str, server: str):
        self.scenario, self.server = scenario, server
        # events that no client may miss: acknowledged, not delivered, and not fetched again afterwards
        self.lost = 0
        self.twice = 0
        # delivered after a later one of the same source
        self.old = 0
        # clients that do not hold the last state in the end
        self.wrong = 0
        self.ends = 0
        self.gap = 0.0
        self.not_ready = 0.0
        self.false_ready = 0.0
        self.lines = 0.0

    def __str__(self):
        return (f"{self.scenario:<34} {self.server:<9} {self.lost:>5} {self.twice:>5} {self.old:>5} {self.wrong:>5} {self.ends:>5} {self.gap:>6.1f} "
                f"{self.not_ready:>6.1f} {self.false_ready:>7.1f} {self.lines:>9.1f}")


class KafkaFleet:
    """`servers`: name (one letter) -> a Server. Those of `ready` are asked for /readyz. Use run(trouble)."""

    def __init__(self, scenario: str, topic: str, servers: dict, ready: list, clients: int = 2, rate: float = 25):
        self.scenario, self.servers = scenario, servers
        self.clients_each = clients
        settings = {"topic": topic, "servers": {name: server.port for name, server in servers.items()}, "ready": ready, "clients": clients, "rate": rate}
        self.process = subprocess.Popen([VENV / "bin" / "python", "-P", Path(__file__).with_name("fleet_member.py"), json.dumps(settings)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment())
        self.lock = threading.Lock()
        self.wait(lambda status: all(connected for connected, _ in status), 30, "connection of all clients")

    def ask(self, what: str):
        with self.lock:
            self.process.stdin.write(what.encode() + b"\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())

    def wait(self, condition, seconds: float, what: str):
        deadline = time.monotonic() + scaled(seconds)
        while not condition(status := self.ask("status")):
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.scenario}: no {what}: {status}")
            time.sleep(0.2)

    def run(self, trouble, before: float = 3, after: float = 5, settle: float = 60) -> dict:
        """Publishes; trouble() happens; publishes a while longer; everybody must come to the last state. Rows by server."""
        lines = {name: len(server.log().splitlines()) for name, server in self.servers.items()}
        began = time.monotonic()
        self.ask("start")
        time.sleep(before)
        trouble()
        time.sleep(after)
        last = self.ask("stop")
        self.settled = True
        try:
            self.wait(lambda status: all(connected and all(seen.get(source) == number for source, number in last.items() if self.counts(source))
                                         for connected, seen in status), settle, f"last events {last}")
        except AssertionError as error:
            print(error)
            self.settled = False
        time.sleep(1)
        ended = time.monotonic()
        report = self.ask("report")
        rows = {name: self._measure(name, report) for name in self.servers}
        for name, server in self.servers.items():
            rows[name].lines = (len(server.log().splitlines()) - lines[name]) / ((ended - began) / 60)
        note(rows.values())
        self.close()
        return rows

    # ---- what a client saw
    def _measure(self, name: str, report: dict) -> Row:
        row = Row(self.scenario, type(self.servers[name]).__name__ + " " + name)
        published = report["published"]
        for client in (c for c in report["clients"] if c["server"] == name):
            self._measure_client(row, client["log"], published)
        row.not_ready = 0.25 * sum(status != 200 for _, status, _ in report["ready"].get(name, []))
        row.false_ready = self._false_ready(name, report)
        return row

    def _measure_client(self, row: Row, log: list, published: dict):
        seen: Counter = Counter((what, number) for _, what, number in log if what not in "+-")
        refetches = [when for when, what, _ in log if what == "+"]
        row.ends += sum(what == "-" for _, what, _ in log)
        row.twice += sum(count - 1 for (source, _), count in seen.items() if self.counts(source))
        for source, events in published.items():
            if not self.counts(source):
                continue
            row.lost += sum(status == 200 and (source, number) not in seen and refetches[-1] < ended for number, _, ended, status in events)
            received = [number for _, what, number in log if what == source]
            highest = -1
            for number in received:
                row.old += number < highest
                highest = max(highest, number)
            held = self._held_in_the_end(source, log, events)
            row.wrong += held != [number for number, _, _, status in events if status == 200][-1]
        times = [when for when, what, _ in log if what not in "+-" and what != row.server[-1]]
        begin = min(event[1] for events in published.values() for event in events)
        times = [when for when in times if when >= begin]
        row.gap = max(row.gap, *(b - a for a, b in zip(times, times[1:])), 0) if len(times) > 1 else row.gap

    def counts(self, source: str) -> bool:
        """What opal-server sends may be lost and reordered on its way into Kafka."""
        return not isinstance(self.servers[source], Reference)

    @staticmethod
    def _held_in_the_end(source: str, log: list, events: list):
        held = None
        for when, what, number in log:
            if what == source:
                held = number
            elif what == "+":
                fetched = [n for n, _, ended, status in events if status == 200 and ended <= when]
                held = fetched[-1] if fetched else None
        return held

    def _false_ready(self, name: str, report: dict) -> float:
        """Seconds in which /readyz said 200 although an event had not come in, or not got out, for READY_LIMIT seconds, and nothing else was
        under way in that direction either (clients that catch up after an outage are not the server's fault)."""
        opalds = [other for other in self.servers if other != name and other in report["ready"]]
        samples = [when for when, status, _ in report["ready"].get(name, []) if status == 200]
        false: set = set()
        for source, target in [(other, name) for other in opalds] + [(name, other) for other in opalds]:
            log = next(c["log"] for c in report["clients"] if c["server"] == target)
            arrivals = [when for when, what, _ in log if what == source]
            arrived = {number: when for when, what, number in reversed(log) if what == source}
            fetched = [when for when, what, _ in log if what == "+"]
            quiet = [when for when in samples if bisect(arrivals, when - CALM) == bisect(arrivals, when + CALM)]
            for number, _, ended, status in report["published"][source] if quiet else ():
                end = min([arrived.get(number, float("inf")), *(when for when in fetched if when >= ended)])
                if status == 200 and end - ended > READY_LIMIT:
                    false |= {when for when in quiet if ended + READY_LIMIT <= when <= end}
        return 0.25 * len(false)

    def close(self):
        self.process.kill()
        self.process.wait()


def note(rows):
    """Lines of the table that `make test-kafka-cluster` prints."""
    path = os.environ.get("OPALD_CLUSTER_RESULTS")
    for row in rows:
        print(row)
        if path:
            new = not Path(path).exists()
            with open(path, "a") as out:
                out.write((HEAD + "\n" if new else "") + str(row) + "\n")


if __name__ == "__main__":
    sys.exit("a module of the tests")
