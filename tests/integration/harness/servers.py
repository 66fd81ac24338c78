"""The two servers that are compared: opald, and the reference opal-server 0.9.9."""

import os
import re
from pathlib import Path

from .http import HttpConnection, Response, http_request, is_healthy
from .paths import OPALD, ROOT, SANITIZER, VENV
from .ports import free_port
from .process import Process, live_children


class Server(Process):
    """What both have: a port, HTTP helpers, readiness by GET /healthcheck."""

    port: int

    def wait_ready(self, seconds: float = 20):
        self.wait_until(lambda: is_healthy(self.port), seconds, "answer to /healthcheck")
        return self

    def request(self, method: str, target: str, body=None, headers=None, json=None, timeout: float = 10) -> Response:
        return http_request(self.port, method, target, body, headers, json, timeout)

    def connection(self, **keywords) -> HttpConnection:
        return HttpConnection(self.port, **keywords)

    def publish(self, topics, data=None, url: str = "http://127.0.0.1:1/unused", dst_path: str = "/x", **fields) -> Response:
        """POST /data/config with one entry, as `opal-client publish-data-update` does it."""
        entry = {"url": url, "config": {}, "topics": [topics] if isinstance(topics, str) else list(topics),
                 "dst_path": dst_path, "save_method": "PUT", "data": data}
        return self.request("POST", "/data/config", json={"entries": [entry], "reason": "", **fields})

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


class Opald(Server):
    """`$OPALD run`, ready when it answers. Options by flags (`args`) or environment (`env`)."""

    def __init__(self, work: Path, workers: int = 1, broadcast_uri: str | None = None, channel: str | None = None,
                 env: dict | None = None, args=(), port: int | None = None, name: str = "opald", ready: bool = True, host: str = "127.0.0.1", **popen):
        self.port = port or free_port()
        self.workers = workers
        argv = [OPALD, "run", "--host", host, "--port", self.port, "--workers", workers]
        if broadcast_uri:
            argv += ["--broadcast-uri", broadcast_uri]
        environment = {"OPAL_LOG_COLORIZE": "false", **sanitizer_environment()}
        if channel:
            environment["OPAL_BROADCAST_CHANNEL_NAME"] = channel
        self.logs_info = not any("LOG_LEVEL" in str(setting).upper().replace("-", "_") for setting in [*args, *(env or {})])
        super().__init__(name, argv + list(args), work, {**environment, **(env or {})}, **popen)
        if ready:
            self.wait_ready()

    def wait_ready(self, seconds: float = 20):
        # an answer shows that one worker accepts, the line that all do
        super().wait_ready(seconds)
        self.wait_until(lambda: len(self.worker_pids()) >= self.workers, seconds, f"{self.workers} workers")
        if self.logs_info:
            self.wait_for_log("Application startup complete", seconds)
        return self

    def worker_pids(self) -> list[int]:
        """Live workers of the master, lowest pid first."""
        return live_children(self.pid, "--as-worker")

    def policy_pids(self) -> list[int]:
        """The live policy process of the master; none between one's death and the next one's start."""
        return live_children(self.pid, "--as-policy")

    def workers_of(self, local_ports) -> dict:
        """For each connection, named by the port of its client side, the pid of the worker that holds the server's end (or None)."""
        inodes = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == self.port:
                inodes[int(fields[2].split(":")[1], 16)] = fields[9]
        holders = {}
        for pid in self.worker_pids():
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    holders[os.readlink(descriptor)] = pid
                except OSError:
                    pass
        return {port: holders.get(f"socket:[{inodes.get(port)}]") for port in local_ports}

    def worker_of(self, local_port: int) -> int | None:
        return self.workers_of([local_port])[local_port]


def sanitizer_environment() -> dict:
    return {
        "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:halt_on_error=1:exitcode=99:detect_stack_use_after_return=1",
        # Debian's librdkafka is not instrumented
        "TSAN_OPTIONS": f"halt_on_error=0:exitcode=66:second_deadlock_stack=1:suppressions={ROOT}/tests/stress/thread_sanitizer.supp",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    } if SANITIZER else {}


class Reference(Server):
    """opal-server 0.9.9 started with gunicorn as its image does, with every file it writes kept in a folder of its own.
    The repository watcher is off: these tests are about data updates."""

    def __init__(self, work: Path, workers: int = 1, broadcast_uri: str | None = None, channel: str | None = None,
                 env: dict | None = None, port: int | None = None, name: str = "reference", ready: bool = True):
        self.port = port or free_port()
        self.workers = workers
        work = work / f"{name}-{self.port}"
        work.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": f"{VENV}/bin:{os.environ['PATH']}",
            "OPAL_REPO_WATCHER_ENABLED": "false",
            "OPAL_LEADER_LOCK_FILE_PATH": work / "leader.lock",
            "OPAL_AUTH_JWKS_STATIC_DIR": work / "jwks_dir",
            "OPAL_POLICY_REPO_CLONE_PATH": work / "regoclone",
            "OPAL_BASE_DIR": work / "base",
            "OPAL_LOG_COLORIZE": "false",
            "UVICORN_NUM_WORKERS": workers,
            "DD_TRACE_ENABLED": "false",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        }
        if broadcast_uri:
            environment["OPAL_BROADCAST_URI"] = broadcast_uri
        if channel:
            environment["OPAL_BROADCAST_CHANNEL_NAME"] = channel
        super().__init__(
            name,
            [VENV / "bin" / "python3", VENV / "bin" / "gunicorn", "-b", f"127.0.0.1:{self.port}", "-k", "uvicorn.workers.UvicornWorker",
             f"--workers={workers}", "opal_server.main:app", "-t", "30", "--keep-alive", "5"],
            work, {**environment, **(env or {})}, cwd=work,
        )
        if ready:
            self.wait_ready(60)

    def wait_ready(self, seconds: float = 60):
        # gunicorn binds before its workers run; the answer comes from the first worker, the log tells about all of them
        super().wait_ready(seconds)
        self.wait_until(lambda: len(re.findall("Application startup complete", self.log())) >= self.workers, seconds, "all workers")
        return self
