"""What is measured: opald, the bare baseline, the reference. Each starts fresh for a run and is asked by the same load generator."""

import json
import os
import shutil
import signal
import socket
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
    def __init__(self, programs: Programs, kafka=None, topic: str | None = None, workers: int = WORKERS, env: dict | None = None,
                 no_reply: bool = False):
        from harness.servers import Opald as Server
        self.options = {"no_reply": True} if no_reply else {}
        self.publish = "ws"
        self.server = Server(programs.work, workers=workers, broadcast_uri=kafka.uri if kafka else None, channel=topic,
                             env=env, name=f"opald-{os.getpid()}")
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


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Peer:
    """Another server, from Debian, with a configuration of its own on free ports."""

    def __init__(self, programs: Programs, argv: list, ports: list):
        from harness.process import Process
        self.process = Process(f"{self.publish}-{os.getpid()}-{ports[0]}", argv, programs.work)
        self.port, self.pids = ports[0], [self.process.pid]
        self.options = {"dialect": self.publish, "publish_port": ports[-1]}
        for port in ports:
            self.process.wait_until(lambda: listens(port), 10, f"port {port}")

    def stop(self):
        self.process.stop()


class Nats(Peer):
    def __init__(self, programs: Programs):
        from harness.ports import free_port
        self.publish = "nats"
        websocket, plain = free_port(), free_port()
        configuration = programs.work / f"nats-{plain}.conf"
        configuration.write_text(f"host: 127.0.0.1\nport: {plain}\nping_interval: \"10m\"\nwrite_deadline: \"60s\"\n"
                                 f"websocket {{ host: 127.0.0.1, port: {websocket}, no_tls: true, compression: false }}\n")
        super().__init__(programs, [shutil.which("nats-server") or "/usr/sbin/nats-server", "-c", configuration], [websocket, plain])


class Nchan(Peer):
    def __init__(self, programs: Programs):
        from harness.ports import free_port
        self.publish = "nchan"
        port = free_port()
        folder = programs.work / f"nginx-{port}"
        folder.mkdir()
        configuration = folder / "nginx.conf"
        configuration.write_text(
            f"load_module /usr/lib/nginx/modules/ngx_nchan_module.so;\n{'user root;' if os.getuid() == 0 else ''}\ndaemon off;\n"
            f"pid {folder}/pid;\nerror_log {folder}/error.log;\nworker_processes {WORKERS};\nworker_rlimit_nofile 65536;\n"
            "events { worker_connections 30000; }\nhttp {\naccess_log off;\n"
            + "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            + f"keepalive_requests 1000000000;\nnchan_shared_memory_size 512m;\nserver {{\nlisten 127.0.0.1:{port} reuseport backlog=16384;\n"
            "location ~ ^/pub/(.+)$ { nchan_publisher http; nchan_channel_id $1; nchan_message_buffer_length 100; nchan_message_timeout 1m; }\n"
            "location ~ ^/sub/(.+)$ { nchan_subscriber websocket; nchan_channel_id $1; nchan_subscriber_first_message newest; }\n}\n}\n")
        super().__init__(programs, ["/usr/sbin/nginx", "-p", folder, "-c", configuration], [port])


def has_nats() -> bool:
    return bool(shutil.which("nats-server")) or Path("/usr/sbin/nats-server").exists()


def has_nchan() -> bool:
    return Path("/usr/sbin/nginx").exists() and Path("/usr/lib/nginx/modules/ngx_nchan_module.so").exists()


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
    for name, value in {**getattr(subject, "options", {}), **options}.items():
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
