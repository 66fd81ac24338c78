"""The real opal-client 0.9.9, the OPA beside it, and an HTTP source for its data."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .http import http_request
from .paths import OPA, VENV
from .ports import free_port
from .process import Process, clean_environment, descendant_pids, wait_until


class OpalClient(Process):
    """opal-client as its image runs it (gunicorn), with an inline OPA that it starts itself from PATH."""

    def __init__(self, work: Path, server_port: int, topics: str = "policy_data", env: dict | None = None, name: str = "opal-client"):
        self.port, self.opa_port = free_port(), free_port()
        work = work / f"{name}-{self.port}"
        work.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": f"{OPA.parent}:{VENV}/bin:{os.environ['PATH']}",
            "OPAL_SERVER_URL": f"http://127.0.0.1:{server_port}",
            "OPAL_DATA_TOPICS": topics,
            "OPAL_INLINE_OPA_CONFIG": json.dumps({"addr": f"127.0.0.1:{self.opa_port}"}),
            "OPAL_POLICY_STORE_URL": f"http://127.0.0.1:{self.opa_port}",
            "OPAL_LOG_COLORIZE": "false",
            "OPAL_LOG_LEVEL": "DEBUG",
            # the pinned OPA is older than the flag that this option passes
            "OPAL_OPA_V0_COMPAT": "false",
            "OPAL_STORE_BACKUP_PATH": work / "backup.json",
            "DD_TRACE_ENABLED": "false",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        }
        super().__init__(
            name,
            [VENV / "bin" / "python3", VENV / "bin" / "gunicorn", "-b", f"127.0.0.1:{self.port}", "-k", "uvicorn.workers.UvicornWorker",
             "--workers=1", "opal_client.main:app", "-t", "30", "--keep-alive", "5"],
            work, {**environment, **(env or {})}, cwd=work,
        )

    def kill(self):
        # it starts OPA in a session of its own: gone from the process group, still a descendant
        below = descendant_pids(self.pid)
        super().kill()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def wait_connected(self, count: int = 2, seconds: float = 60):
        """Waits until it says so for both of its websockets (policy and data), and its OPA answers."""
        self.wait_for_log("Connected to PubSub server", seconds, count)
        self.wait_until(self._opa_answers, seconds, "OPA")
        return self

    def _opa_answers(self) -> bool:
        try:
            return http_request(self.opa_port, "GET", "/health", timeout=2).status == 200
        except (OSError, EOFError):
            return False

    def stored(self, path: str):
        """What OPA holds under /v1/data/<path>; None when nothing."""
        response = http_request(self.opa_port, "GET", f"/v1/data/{path.lstrip('/')}")
        return json.loads(response.body).get("result") if response.status == 200 else None

    def wait_stored(self, path: str, value, seconds: float = 20):
        return self.wait_until(lambda: self.stored(path) == value, seconds, f"{value!r} in OPA at {path}")


class DataSource:
    """An HTTP server for the URLs of data entries: source.serve('/x', {...}); source.url('/x'); source.hits lists the paths asked for."""

    def __init__(self):
        self.documents: dict[str, bytes] = {}
        self.hits: list[str] = []
        self.posts: list[tuple[str, bytes]] = []
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                source.hits.append(self.path)
                body = source.documents.get(self.path.split("?")[0])
                self.send_response(200 if body is not None else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body or b"{}")))
                self.end_headers()
                self.wfile.write(body or b"{}")

            def do_POST(self):
                source.posts.append((self.path, self.rfile.read(int(self.headers.get("content-length", 0)))))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def serve(self, path: str, document) -> str:
        self.documents[path] = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def opal_client_command(*arguments, seconds: float = 60) -> str:
    """Runs the `opal-client` command line tool, e.g. publish-data-update; returns what it printed."""
    import subprocess

    done = subprocess.run([VENV / "bin" / "python3", VENV / "bin" / "opal-client", *map(str, arguments)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                          env=clean_environment({"PATH": f"{VENV}/bin:{os.environ['PATH']}", "DD_TRACE_ENABLED": "false"}))
    return done.stdout.decode("utf-8", "replace")


__all__ = ["OpalClient", "DataSource", "opal_client_command", "wait_until"]
