"""Redis and Postgres servers of the tests' own, a TCP proxy that misbehaves on demand, and a certificate authority."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from .ports import free_port
from .process import Process, child_pids, clean_environment, freeze, process_state, wait_until


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for child in child_pids(pid):
        found += _descendants(child)
    return found


class _Killable:
    """What both servers have: kill -9 of everything, SIGSTOP and SIGCONT of everything."""

    process: Process | None = None

    def _signal_all(self, number):
        for pid in _descendants(self.process.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        pids = _descendants(self.process.pid)
        self._signal_all(signal.SIGCONT)
        self._signal_all(signal.SIGKILL)
        self.process.popen.wait()
        wait_until(lambda: not any(process_state(pid) not in ("", "Z") for pid in pids), 10, "end of all server processes")

    def pause(self):
        for pid in _descendants(self.process.pid):
            try:
                freeze(pid)
            except ProcessLookupError:
                pass

    def resume(self):
        self._signal_all(signal.SIGCONT)

    def stop(self):
        if self.process and self.process.is_running():
            self.kill()


# ---- certificates
class Authority:
    """A CA in a folder: `ca` is its certificate; issue(host) gives (certificate, key)."""

    def __init__(self, folder: Path, name: str = "ca"):
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.ca = self.folder / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN=opald test {name}",
                      "-keyout", self.folder / "ca.key", "-out", self.ca)

    def _openssl(self, *arguments):
        done = subprocess.run(["openssl", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()

    def issue(self, *names: str) -> tuple[Path, Path]:
        stem = self.folder / f"leaf-{len(list(self.folder.iterdir()))}"
        key, request, certificate, extra = (stem.with_suffix(x) for x in (".key", ".csr", ".pem", ".ext"))
        numeric = [n for n in names if n.replace(".", "").isdigit()]
        extra.write_text("subjectAltName=" + ",".join([f"IP:{n}" for n in numeric] + [f"DNS:{n}" for n in names if n not in numeric]))
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={names[0]}", "-keyout", key, "-out", request)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-days", "2",
                      "-extfile", extra, "-out", certificate)
        return certificate, key


# ---- Redis
class RedisServer(_Killable):
    """Same port over kill and restart. With `certificate` the port speaks TLS only."""

    scheme = "redis"

    def __init__(self, work: Path, *settings: str, certificate: tuple | None = None, name: str = "redis"):
        self.work, self.name = work / name, name
        self.work.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.tls = certificate is not None
        self.config = self.work / "redis.conf"
        listen = [f"port {self.port}"]
        if certificate:
            listen = ["port 0", f"tls-port {self.port}", f"tls-cert-file {certificate[0]}", f"tls-key-file {certificate[1]}",
                      "tls-auth-clients no"]
        self.config.write_text("\n".join([*listen, "bind 127.0.0.1", 'save ""', "appendonly no", f"dir {self.work}",
                                          "daemonize no", *settings]) + "\n")
        self.start()

    @property
    def uri(self) -> str:
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def uri_by(self, port: int) -> str:
        return f"redis://127.0.0.1:{port}"

    def start(self):
        self.process = Process(self.name, ["redis-server", self.config], self.work)
        self.process.wait_until(self._answers, 10, "open port")
        return self

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
            return True
        except OSError:
            return False

    def connection(self):
        import redis
        return redis.Redis(port=self.port, socket_timeout=5)

    def publish(self, channel: str, payload: bytes):
        with self.connection() as connection:
            return connection.publish(channel, payload)

    def listen(self, channel: str):
        """A plain subscriber; call get(timeout) for the next payload."""
        return _RedisListener(self, channel)

    def drop_clients(self):
        """Ends every connection from inside."""
        with self.connection() as connection:
            connection.execute_command("CLIENT KILL TYPE pubsub")
            connection.execute_command("CLIENT KILL TYPE normal SKIPME yes")


class _RedisListener:
    def __init__(self, server, channel):
        self.subscription = server.connection().pubsub()
        self.subscription.subscribe(channel)
        assert self.subscription.get_message(timeout=5)["type"] == "subscribe"

    def get(self, timeout: float = 5) -> bytes:
        message = self.subscription.get_message(timeout=timeout)
        assert message, "no message"
        return message["data"]


# ---- Postgres
POSTGRES_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"))


class PostgresServer(_Killable):
    """A cluster of its own, trust authentication for `postgres`, passwords for everybody else. Same port and data over kill and restart."""

    scheme = "postgres"

    def __init__(self, work: Path, *settings: str, certificate: tuple | None = None, name: str = "postgres", standby_of: "PostgresServer | None" = None):
        """`standby_of`: a streaming replica of that server, until promote()."""
        # Postgres refuses to run as root, and its user can't reach pytest's folders.
        self.user = "postgres" if os.getuid() == 0 else None
        self.work, self.name = work / name, name
        self.folder = Path(tempfile.mkdtemp(prefix="opald-test-pg-"))
        self.port = free_port()
        if self.user:
            shutil.chown(self.folder, self.user)
        if standby_of:
            self._run("pg_basebackup", "-D", self.folder / "data", "-d", f"host=127.0.0.1 port={standby_of.port} user=postgres", "-R", "-c", "fast", "--no-sync")
            with open(self.folder / "data" / "postgresql.conf", "a") as out:
                out.write(f"port = {self.port}\n")
            self.start()
            return
        self._run("initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        lines = [f"port = {self.port}", "listen_addresses = '127.0.0.1'", "unix_socket_directories = ''", "fsync = off",
                 "shared_buffers = 16MB", "max_connections = 60", "logging_collector = off", "log_min_error_statement = panic", *settings]
        hba = "host replication postgres all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n"
        if certificate:
            for source, target in zip(certificate, ("server.crt", "server.key")):
                shutil.copy(source, self.folder / target)
                os.chmod(self.folder / target, 0o600)
                if self.user:
                    shutil.chown(self.folder / target, self.user)
            lines += ["ssl = on", f"ssl_cert_file = '{self.folder}/server.crt'", f"ssl_key_file = '{self.folder}/server.key'"]
            hba = hba.replace("host ", "hostssl ")
        with open(self.folder / "data" / "postgresql.conf", "a") as out:
            out.write("\n".join(lines) + "\n")
        (self.folder / "data" / "pg_hba.conf").write_text(hba)
        self.start()

    def _run(self, program, *arguments):
        done = subprocess.run([POSTGRES_BIN / program, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=clean_environment(), user=self.user, cwd="/")
        assert done.returncode == 0, done.stdout.decode()

    @property
    def uri(self) -> str:
        return self.uri_by(self.port)

    def uri_by(self, port: int, database: str = "postgres", user: str = "postgres", options: str = "") -> str:
        return f"postgres://{user}@127.0.0.1:{port}/{database}{options}"

    def start(self):
        self.process = Process(self.name, [POSTGRES_BIN / "postgres", "-D", self.folder / "data"], self.work, cwd=Path("/"), user=self.user)
        self.process.wait_until(self._answers, 30, "answer")
        return self

    def _answers(self):
        return subprocess.run(["psql", self.uri, "-Atqc", "SELECT 1"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, env=clean_environment()).returncode == 0

    def sql(self, text: str, database: str = "postgres", check: bool = True) -> str:
        done = subprocess.run(["psql", self.uri_by(self.port, database), "-Atqc", text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=clean_environment({"PGCONNECT_TIMEOUT": "5"}))
        assert not check or done.returncode == 0, done.stdout.decode()
        return done.stdout.decode().strip()

    def promote(self):
        self._run("pg_ctl", "promote", "-w", "-D", self.folder / "data")

    def publish(self, channel: str, payload: bytes):
        self.sql("SELECT pg_notify('%s', '%s')" % (channel.replace("'", "''"), payload.decode().replace("'", "''")))

    def listen(self, channel: str):
        return _PostgresListener(self, channel)

    def drop_clients(self):
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class _PostgresListener:
    """asyncpg, which is what the reference uses, in a thread of its own."""

    def __init__(self, server, channel):
        import asyncio
        import queue
        import asyncpg
        self.queue = queue.Queue()
        ready = threading.Event()

        async def main():
            connection = await asyncpg.connect(server.uri)
            await connection.add_listener(channel, lambda *a: self.queue.put(a[3].encode()))
            ready.set()
            await asyncio.sleep(3600)

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        assert ready.wait(10), "no LISTEN"

    def get(self, timeout: float = 5) -> bytes:
        return self.queue.get(timeout=timeout)


class PgBouncer:
    """The connection pooler in front of `server`; `mode` is session or transaction."""

    def __init__(self, work: Path, server: PostgresServer, mode: str):
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="opald-test-pgbouncer-"))
        config = self.folder / "pgbouncer.ini"
        config.write_text(f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
                          f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n")
        if server.user:  # it refuses to run as root
            shutil.chown(self.folder, server.user)
            shutil.chown(config, server.user)
        self.process = Process("pgbouncer", [shutil.which("pgbouncer", path="/usr/sbin:/usr/bin"), config], work / "pgbouncer",
                               cwd=Path("/"), user=server.user)
        self.process.wait_until(self._answers, 10, "open port")

    def _answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
            return True
        except OSError:
            return False

    def stop(self):
        self.process.popen.kill()
        self.process.popen.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- a bad network
class Proxy:
    """TCP from `port` to a target port. cut(): resets what is open. swallow(): what is open now stays open but carries nothing any more (half-open);
    new connections work. refuse(True): new ones are reset. `filter(direction, bytes)` may drop what passes ("up" to the server, "down")."""

    def __init__(self, target: int, filter=None):
        self.target, self.filter = target, filter
        self.refusing = False
        self.pairs: list = []
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", free_port()), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                assert not self.refusing
                server = socket.create_connection(("127.0.0.1", self.target), 5)
            except (OSError, AssertionError):
                self._reset(client)
                continue
            for one in (client, server):
                one.settimeout(None)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = {"client": client, "server": server, "swallow": False}
            self.pairs.append(pair)
            threading.Thread(target=self._pump, args=(pair, "client", "server", "up"), daemon=True).start()
            threading.Thread(target=self._pump, args=(pair, "server", "client", "down"), daemon=True).start()

    def _pump(self, pair, source, target, direction):
        try:
            while data := pair[source].recv(65536):
                if pair["swallow"]:
                    continue
                if self.filter:
                    data = self.filter(direction, data)
                if data:
                    pair[target].sendall(data)
        except OSError:
            pass
        if not pair["swallow"]:
            self._close(pair)

    @staticmethod
    def _reset(one):
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.shutdown(socket.SHUT_RDWR)  # wakes a recv in another thread
        except OSError:
            pass
        one.close()

    def _close(self, pair):
        if pair in self.pairs:
            self.pairs.remove(pair)
        for end in ("client", "server"):
            self._reset(pair[end])

    def cut(self):
        for pair in list(self.pairs):
            self._close(pair)

    def swallow(self):
        for pair in list(self.pairs):
            pair["swallow"] = True

    def refuse(self, on: bool):
        self.refusing = on

    def close(self):
        self.listener.close()
        self.cut()


class FakeServer:
    """Accepts on `port`, hands each connection to behaviour(socket) in a thread and then leaves it open."""

    def __init__(self, behaviour):
        self.behaviour, self.accepted, self.open = behaviour, 0, []
        self.listener = socket.create_server(("127.0.0.1", free_port()), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.append(connection)
            threading.Thread(target=self._behave, args=(connection,), daemon=True).start()

    def _behave(self, connection):
        try:
            self.behaviour(connection)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        for connection in self.open:
            connection.close()


def proxied(server, filter=None) -> tuple[Proxy, str]:
    """A proxy in front of `server` and the URI that leads through it."""
    proxy = Proxy(server.port, filter)
    return proxy, server.uri_by(proxy.port)
