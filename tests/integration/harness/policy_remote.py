"""A policy repository to commit to, and the ways to serve it: a path, git daemon, HTTP with a password, SSH."""

import base64
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .ports import free_port
from .process import Process, wait_until

IDENTITY = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C.UTF-8"}


def git(where: Path, *arguments, **environment) -> str:
    made = subprocess.run(["git", "-C", where, *arguments], env={**os.environ, **IDENTITY, **environment}, capture_output=True, text=True)
    assert made.returncode == 0, f"git {arguments}: {made.stderr}"
    return made.stdout.strip()


class PolicyRemote:
    """`remote` is the bare repository that servers follow; `commit` writes files into a work tree beside it and pushes."""

    def __init__(self, work: Path, files: dict | None = None, branch: str = "master"):
        self.base = work / "remotes"
        self.remote = self.base / "policies.git"
        self.tree = work / "tree"
        self.branch = branch
        self.base.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", "--bare", "-b", branch, self.remote], check=True)
        subprocess.run(["git", "init", "-q", "-b", branch, self.tree], check=True)
        git(self.tree, "remote", "add", "origin", str(self.remote))
        git(self.remote, "config", "http.receivepack", "true")
        self.commit(files if files is not None else {"a/q.rego": "package a.q\n", "users/z.rego": "package users.z\n", "data.json": "{}\n"})

    @property
    def head(self) -> str:
        return git(self.tree, "rev-parse", "HEAD")

    def commit(self, files: dict, remove=(), rename=(), message: str = "m", push: bool = True) -> str:
        """Writes `files` (None: unchanged), removes and renames, commits everything, pushes; the new head."""
        for old, new in dict(rename).items():
            (self.tree / new).parent.mkdir(parents=True, exist_ok=True)
            git(self.tree, "mv", old, new)
        for name in remove:
            git(self.tree, "rm", "-q", name)
        for name, text in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-q", "--allow-empty", "-m", message)
        if push:
            self.push()
        return self.head

    def push(self):
        git(self.tree, "push", "-q", "--force", "origin", f"HEAD:{self.branch}")


class GitDaemon(Process):
    def __init__(self, work: Path, repo: PolicyRemote, port: int | None = None):
        self.port = port or free_port()
        super().__init__("git-daemon", ["git", "daemon", "--export-all", f"--base-path={repo.base}", "--reuseaddr", "--listen=127.0.0.1",
                                        f"--port={self.port}", repo.base], work)
        self.url = f"git://127.0.0.1:{self.port}/{repo.remote.name}"
        self.wait_until(lambda: subprocess.run(["git", "ls-remote", self.url], capture_output=True).returncode == 0, 10, "git daemon")


class GitHttp:
    """git http-backend behind a small server that asks for a password. `requests` counts, `refused` those without it."""

    def __init__(self, repo: PolicyRemote, user: str, password: str):
        outer = self
        self.requests = self.refused = 0
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def serve(self):
                outer.requests += 1
                if self.headers.get("Authorization") != wanted:
                    outer.refused += 1
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                path, _, query = self.path.partition("?")
                length = int(self.headers.get("Content-Length") or 0)
                made = subprocess.run(["git", "http-backend"], input=self.rfile.read(length), capture_output=True, env={
                    **os.environ, **IDENTITY, "GIT_PROJECT_ROOT": str(repo.base), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(length),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")})
                head, _, body = made.stdout.partition(b"\r\n\r\n")
                headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
                self.send_response(int(headers.pop("Status", "200").split()[0]))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]
        self.path = f"127.0.0.1:{self.port}/{repo.remote.name}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Sshd(Process):
    """sshd on loopback with keys of its own; `client_key` is the private key of whoever may come in."""

    def __init__(self, work: Path, repo: PolicyRemote):
        self.port = free_port()
        work.mkdir(parents=True, exist_ok=True)
        self.host_key = work / "host_key"
        client = work / "client_key"
        self.new_host_key()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", client], check=True)
        (work / "authorized_keys").write_text((work / "client_key.pub").read_text())
        (work / "authorized_keys").chmod(0o600)
        (work / "sshd_config").write_text(f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nAuthorizedKeysFile {work}/authorized_keys\n"
                                          "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n")
        os.makedirs("/run/sshd", exist_ok=True) if os.geteuid() == 0 else None
        self.client_key = client.read_text()
        super().__init__("sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", work / "sshd_config"], work)
        self.url = f"ssh://{os.environ.get('USER') or 'root'}@127.0.0.1:{self.port}{repo.remote}"
        wait_until(self._answers, 10, "sshd")

    def new_host_key(self):
        self.host_key.unlink(missing_ok=True)
        Path(f"{self.host_key}.pub").unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.host_key], check=True)

    def _answers(self) -> bool:
        return subprocess.run(["ssh-keyscan", "-T", "1", "-p", str(self.port), "127.0.0.1"], capture_output=True).stdout != b""
