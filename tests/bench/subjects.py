"""What is measured: opald, the bare baseline, the reference. Each starts fresh for a run and is asked by the same load generator."""

import json
import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

# The tests' harness starts the servers. Its package file also loads what only tests need (websockets); its modules do not, so
# that opald and the bare writers can be measured with plain Python.
_harness = types.ModuleType("harness")
_harness.__path__ = [str(Path(__file__).resolve().parents[1] / "integration" / "harness")]
sys.modules["harness"] = _harness

WORKERS = 2

# Ended from outside, a run still stops the servers it started.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Programs:
    """Where the built programs are, and a folder for logs."""

    def __init__(self, opald: Path, folder: Path, work: Path):
        self.opald, self.folder, self.work = opald.absolute(), folder.absolute(), work
        from harness import servers
        servers.OPALD = self.opald

    def path(self, name: str) -> str:
        return str(self.folder / name)


class Lines:
    """A child whose first line is "ready"."""

    def __init__(self, argv: list):
        self.popen = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                      start_new_session=True)
        if self.popen.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{argv[0]} did not start (exit code {self.popen.wait()})")
        self.pid = self.popen.pid

    def stop(self):
        self.popen.terminate()
        self.popen.wait()


class Bare:
    def __init__(self, programs: Programs, coalesce: bool, kafka=None, topic: str | None = None):
        from harness.ports import free_port
        self.publish = "bare"
        self.port = free_port()
        self.parts = [Lines([programs.path("bare"), "--port", self.port, "--workers", WORKERS] + ["--coalesce"] * coalesce)]
        if kafka:
            self.parts.append(Lines([programs.path("bare_feed"), "--brokers", kafka.bootstrap, "--kafka-topic", topic,
                                     "--port", self.port, "--workers", WORKERS]))
        self.pids = [part.pid for part in self.parts]

    def stop(self):
        for part in reversed(self.parts):
            part.stop()


class Opald:
    def __init__(self, programs: Programs, kafka=None, topic: str | None = None, workers: int = WORKERS):
        from harness.servers import Opald as Server
        self.publish = "ws"
        self.server = Server(programs.work, workers=workers, broadcast_uri=kafka.uri if kafka else None, channel=topic,
                             name=f"opald-{os.getpid()}")
        self.port, self.pids = self.server.port, [self.server.pid]
        if kafka:
            self.server.wait_for_log("Broadcaster listener connected", 20)

    def stop(self):
        self.server.stop()


class Reference:
    """opal-server with one worker: it refuses more without a backbone."""

    def __init__(self, programs: Programs, kafka=None, topic: str | None = None):
        from harness.servers import Reference as Server
        self.publish = "ws"
        # readiness is read from the log, so the level stays; uvicorn's access lines are what it writes in production too
        self.server = Server(programs.work, workers=1, broadcast_uri=kafka.uri if kafka else None, channel=topic,
                             name=f"reference-{os.getpid()}")
        self.port, self.pids = self.server.port, [self.server.pid]

    def stop(self):
        # closing thousands of clients in an orderly way takes it half a minute
        self.server.kill()


def has_reference() -> bool:
    from harness.paths import VENV
    return (VENV / "bin" / "gunicorn").exists()


def has_kafka() -> bool:
    from harness.paths import KAFKA_LIBS
    return KAFKA_LIBS.is_dir()


def load(programs: Programs, subject, phases: list, timeout: float = 180, **options) -> dict:
    """One run of the load generator. A run that lost, repeated or missed anything comes back with "good": false."""
    argv = [programs.path("load"), "--port", subject.port, "--publish", options.pop("publish", subject.publish)]
    for pid in subject.pids:
        argv += ["--pid", pid]
    for name, value in options.items():
        argv += [f"--{name.replace('_', '-')}"] + ([] if value is True else [value])
    done = subprocess.run([str(a) for a in argv + phases], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=timeout)
    if not done.stdout.strip().endswith("}"):
        raise RuntimeError(f"the load generator failed with {done.returncode}: {' '.join(map(str, argv))}")
    return json.loads(done.stdout)


class Progress:
    """One line on standard error that says what runs."""

    def __init__(self):
        self.terminal = sys.stderr.isatty()
        self.lock = threading.Lock()

    def __call__(self, text: str):
        with self.lock:
            print(("\r\033[K" if self.terminal else "") + text, end="" if self.terminal else "\n", file=sys.stderr, flush=True)

    def end(self):
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
