"""Fleets under fire: how large, the clients (recorder.py in a process of its own), the publishers, and what each client's log must show."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from .paths import scaled
from .process import clean_environment

# `make test` runs the small size, `make test-backbones` sets the full one.
FULL = os.environ.get("OPALD_FLEET") == "full"
CLIENTS, EVENTS, SECONDS = (100, 10000, 30) if FULL else (16, 2000, 4)
CALM = 3 if FULL else 1.5  # seconds of publishing before and after the trouble


class Recorder:
    """Clients of several servers: Recorder(topic, {port: count, ...})."""

    def __init__(self, topic: str, groups: dict):
        self.ports = [port for port, count in groups.items() for _ in range(count)]
        self.process = subprocess.Popen([sys.executable, Path(__file__).with_name("recorder.py"), topic, *(f"{p}:{n}" for p, n in groups.items())],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment())
        try:
            self.wait(lambda status: all(subscribed for subscribed, _, _ in status), 30, "subscription of all")
        except BaseException:
            self.close()
            raise

    def ask(self, what: str):
        self.process.stdin.write(what.encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def wait(self, condition, seconds: float, what: str):
        deadline = time.monotonic() + scaled(seconds)
        while not condition(status := self.ask("status")):
            assert time.monotonic() < deadline, f"no {what}; subscribed, events, last numbers: {status[:3]} ... {status[-3:]}"
            time.sleep(0.1)

    def wait_for(self, numbers: dict, seconds: float):
        """Until every client has had this number of each source (or a later one)."""
        self.wait(lambda status: all(last.get(source, -1) >= number for _, _, last in status for source, number in numbers.items()), seconds,
                  f"event {numbers} at every client")

    def wait_quiet(self, seconds: float = 2, limit: float = 60):
        """Until everybody is connected and nothing has come for a while."""
        state = {"since": time.monotonic(), "last": None}

        def quiet(status):
            if status != state["last"] or not all(subscribed for subscribed, _, _ in status):
                state.update(since=time.monotonic(), last=status)
            return time.monotonic() - state["since"] > seconds
        self.wait(quiet, limit, "silence")

    def logs(self) -> dict:
        """port -> the logs of its clients."""
        logs: dict = {}
        for port, log in zip(self.ports, self.ask("log")):
            logs.setdefault(port, []).append(log)
        return logs

    def close(self):
        self.process.kill()
        self.process.wait()


async def publish(port: int, topic: str, source: str, first: int, count: int, seconds: float):
    """`count` data updates over `seconds` by HTTP on one connection, numbered; each must be answered 200."""
    began = time.monotonic()
    reader = writer = None
    for n in range(first, first + count):
        body = json.dumps({"entries": [{"url": "http://127.0.0.1:1/unused", "topics": [topic], "dst_path": "/x"}], "reason": f"{source} {n}"}).encode()
        await asyncio.sleep(max(0, began + (n - first) * seconds / count - time.monotonic()))
        while True:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /data/config HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = b""
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), scaled(30))
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                # an idle connection that the server closed before it read anything of this
                assert not getattr(error, "partial", b""), error
                writer.close()
                writer = None
                continue
            break
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
    writer.close()


def check_log(log: list, sent: dict) -> tuple[int, int, int]:
    """(lost, twice, refetches after a close by 1012) of one client's log. `sent`: source -> how many were published, from 0 on. What is new comes in
    order; whatever is missing lies before a refetch. Other closes than by 1012 are faults."""
    closes = Counter(x for x in log if x[0] == "-")
    assert set(closes) <= {"-1012"}, closes
    assert log[0] == "+"
    refetches = [i for i, entry in enumerate(log) if entry == "+"]
    lost = twice = 0
    for source, count in sent.items():
        place: dict = {}
        for i, entry in enumerate(log):
            if entry[0] == source:
                if int(entry[1:]) in place:
                    twice += 1
                else:
                    place[int(entry[1:])] = i
        assert list(place) == sorted(place), f"events of {source} out of order"
        before = 0
        for n in range(count):
            if n in place:
                before = place[n]
            else:
                lost += 1
                assert refetches[-1] > before, f"{source}{n} was lost and no refetch came afterwards"
    return lost, twice, closes["-1012"]


def note(line: str):
    """One line of the table that `make test-backbones` prints."""
    print(line)
    if os.environ.get("OPALD_FLEET_RESULTS"):
        with open(os.environ["OPALD_FLEET_RESULTS"], "a") as out:
            out.write(line + "\n")
