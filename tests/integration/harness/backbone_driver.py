"""kafka_driver (any backbone, not only Kafka) as a Python object: a backend of broadcast/ alone, without a server around it."""

import signal
import subprocess
import threading
import time

import pytest

from .paths import built_driver, scaled
from .process import SANITIZER_MARKS, clean_environment

A, B = "a" * 32, "b" * 32


class Driver:
    """One kafka_driver. `lines` is everything it printed, in order, each with the time it was read."""

    def __init__(self, work, uri, channel, notifier=A, env=None, **options):
        self.log_path = work / f"driver-{notifier[:1]}-{time.monotonic_ns()}.log"
        self.lines: list[str] = []
        self.times: list[float] = []
        self.changed = threading.Condition()
        arguments = [f"{k}={v}" for k, v in options.items()]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([built_driver("kafka_driver"), uri, channel, notifier, *arguments], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, env=clean_environment(env))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.decode().rstrip("\n"))
                self.times.append(time.monotonic())
                self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()

    def say(self, *commands):
        self.process.stdin.write("".join(c + "\n" for c in commands).encode())
        self.process.stdin.flush()

    def wait(self, condition, seconds=10, what="condition"):
        deadline = time.monotonic() + scaled(seconds)
        with self.changed:
            while not (value := condition()):
                left = deadline - time.monotonic()
                assert left > 0, f"no {what}; printed: {self.lines[-20:]}\n{self.log()}"
                self.changed.wait(min(left, 0.2))
            return value

    def wait_line(self, start, seconds=10, count=1):
        self.wait(lambda: sum(x.startswith(start) for x in self.lines) >= count, seconds, f"line {start!r}")
        return [x for x in self.lines if x.startswith(start)][-1]

    def up(self, seconds=15):
        self.wait_line("state UP", seconds)
        return self

    def events(self):
        """(topics, data text) of each event so far."""
        return [tuple(x.split(" ", 3)[1::2]) for x in list(self.lines) if x.startswith("event ")]

    def wait_events(self, count, seconds=10):
        self.wait(lambda: len(self.events()) >= count, seconds, f"{count} events")
        return self.events()

    def counts(self):
        with self.changed:
            before = sum(x.startswith("counts") for x in self.lines)
        self.say("counts")
        line = self.wait_line("counts", count=before + 1)
        return {k: int(v) for k, v in (pair.split("=") for pair in line.split()[1:])}

    def wait_counts(self, seconds=10, **expected):
        deadline = time.monotonic() + scaled(seconds)
        while True:
            counts = self.counts()
            if all(counts[k] >= v for k, v in expected.items()):
                return counts
            assert time.monotonic() < deadline, f"{counts} instead of {expected}\n{self.log()}"
            time.sleep(0.05)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def close(self, seconds=20):
        """The number of unsent messages."""
        self.say("close")
        assert self.process.wait(scaled(seconds)) == 0, self.log()
        self.reader.join(5)
        assert not SANITIZER_MARKS.search(self.log().encode()), self.log()
        return int(next(x for x in self.lines if x.startswith("closed")).split()[1])


@pytest.fixture
def driver(work):
    made = []

    def make(*arguments, **keywords):
        made.append(Driver(work, *arguments, **keywords))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGCONT)
            one.process.kill()
            one.process.wait()
