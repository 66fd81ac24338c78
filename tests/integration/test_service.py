"""What surrounds the server: command line, environment, systemd's protocol, the unit file, haproxy in front of two servers."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import OPALD, RawClient, clean_environment, close_all, connect_many, free_port, freeze, http_request, scaled, wait_until
from harness.backbones import Authority
from harness.paths import ROOT, SANITIZER
from harness.process import Process
from harness.servers import sanitizer_environment


def run(*arguments, env=None, seconds=10):
    """Runs the program to its end: (exit status, standard output, standard error)."""
    done = subprocess.run([OPALD, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=clean_environment({"OPAL_LOG_COLORIZE": "false", **sanitizer_environment(), **(env or {})}), timeout=scaled(seconds))
    return done.returncode, done.stdout.decode(), done.stderr.decode()


# ---------------------------------------------------------------- wrong settings
WRONG = {
    # name: (arguments, environment, what the line must name)
    "port_word": (["run", "--port", "abc"], {}, ["port", "abc"]),
    "port_negative": (["run", "--port", "-1"], {}, ["port", "-1"]),
    "port_too_large": (["run", "--port", "65536"], {}, ["port", "65536"]),
    "workers_zero": (["run", "--workers", "0"], {}, ["workers", "0"]),
    "workers_word": (["run", "--workers", "many"], {}, ["workers", "many"]),
    "workers_float": (["run", "--workers", "1.5"], {}, ["workers", "1.5"]),
    "unknown_flag": (["run", "--no-such-thing", "1"], {}, ["--no-such-thing"]),
    "missing_value": (["run", "--port"], {}, ["--port"]),
    "unknown_command": (["serve"], {}, ["serve"]),
    "extra_argument": (["run", "extra"], {}, ["extra"]),
    "uri_scheme": (["run", "--broadcast-uri", "http://x:1"], {}, ["http://x:1"]),
    "uri_no_host": (["run", "--broadcast-uri", "kafka://"], {}, ["kafka://"]),
    "uri_bad_port": (["run", "--broadcast-uri", "kafka://h:99999"], {}, ["OPAL_BROADCAST_URI", "broker 1 has no valid port"]),
    "postgres_channel": (["run", "--broadcast-uri", "postgres://h/d"], {"OPAL_BROADCAST_CHANNEL_NAME": "x" * 64}, ["64 bytes", "63"]),
    "bool_word": (["run"], {"OPAL_BROADCAST_HEALTHCHECK_ENABLED": "perhaps"}, ["OPAL_BROADCAST_HEALTHCHECK_ENABLED", "perhaps"]),
    "log_level": (["run"], {"OPAL_LOG_LEVEL": "LOUD"}, ["OPAL_LOG_LEVEL", "LOUD"]),
    "env_number": (["run"], {"OPAL_BROADCAST_KEEPALIVE_INTERVAL": "1.5"}, ["OPAL_BROADCAST_KEEPALIVE_INTERVAL", "1.5"]),
    "env_workers": (["run"], {"UVICORN_NUM_WORKERS": "x"}, ["UVICORN_NUM_WORKERS", "x"]),
    "json": (["run"], {"OPAL_DATA_CONFIG_SOURCES": "{nope"}, ["OPAL_DATA_CONFIG_SOURCES"]),
    "json_neither": (["run"], {"OPAL_DATA_CONFIG_SOURCES": "{}"}, ["OPAL_DATA_CONFIG_SOURCES", "external_source_url"]),
    "json_both": (["run"], {"OPAL_DATA_CONFIG_SOURCES": '{"config": {"entries": []}, "external_source_url": "http://x"}'}, ["OPAL_DATA_CONFIG_SOURCES"]),
    "ring_below_event": (["run", "--ring-bytes", "65536", "--event-max-bytes", "1m"], {}, ["ring"]),
    "size_unit": (["run", "--ring-bytes", "5q"], {}, ["ring-bytes", "5q"]),
    "float_word": (["run", "--grace-seconds", "soon"], {}, ["grace-seconds", "soon"]),
    "float_nan": (["run", "--grace-seconds", "nan"], {}, ["grace-seconds", "nan"]),
    "backoff_order": (["run", "--broadcast-reconnect-backoff-min-seconds", "40"], {}, ["BACKOFF_MIN_SECONDS", "40", "30"]),
    "half_a_pair": (["run"], {"OPAL_AUTH_PUBLIC_KEY": "ssh-rsa AAAA"}, ["OPAL_AUTH_PUBLIC_KEY is set", "OPAL_AUTH_PRIVATE_KEY is not"]),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_setting_ends_with_2_and_one_line(name):
    arguments, env, named = WRONG[name]
    status, out, err = run(*arguments, env=env)
    lines = (out + err).strip().splitlines()
    assert status == 2, (status, out, err)
    assert len(lines) == 1, lines
    for word in named:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize("name", ["port_word", "bool_word", "uri_scheme", "json_neither", "postgres_channel"])
def test_check_config_tells_the_same(name):
    arguments, env, named = WRONG[name]
    status, out, err = run("check-config", *arguments[1:], env=env)
    assert status == 2
    for word in named:
        assert word in out + err


def test_check_config_looks_at_the_certificate(work):
    files = Authority(work).issue("localhost")
    good = {"OPAL_TLS_CERTIFICATE": str(files[0]), "OPAL_TLS_KEY": str(files[1])}
    assert run("check-config", env=good)[0] == 0
    for wrong in ({"OPAL_TLS_CERTIFICATE": "/nowhere.pem"}, {"OPAL_TLS_KEY": str(files[0])}):
        status, out, _ = run("check-config", env={**good, **wrong})
        assert status == 2 and "OPAL_TLS" in out and "good" not in out, out


def test_check_config_tells_everything_that_is_wrong():
    status, out, err = run("check-config", "--port", "abc", "--workers", "none", env={"OPAL_LOG_LEVEL": "LOUD"})
    assert status == 2
    assert all(word in out + err for word in ("abc", "none", "LOUD")), out + err


def test_a_secret_is_never_shown():
    status, out, err = run("print-config", env={"OPAL_BROADCAST_URI": "kafka://user:hunter2@127.0.0.1:9092", "OPAL_AUTH_MASTER_TOKEN": "hunter3", "OPAL_POLICY_REPO_URL": "https://u:hunter4@git.example/x"})
    for secret in ("hunter2", "hunter3", "hunter4"):
        assert secret not in out + err, out + err


def test_port_in_use_is_told_in_one_line_and_ends_with_1(opald):
    server = opald()
    status, out, err = run("run", "--port", server.port)
    assert status == 1
    (line,) = [line for line in (out + err).splitlines() if "CRITICAL" in line or "cannot start" in line]
    assert str(server.port) in line and "in use" in line.lower()


def test_help_and_version():
    status, out, _ = run("--help")
    assert status == 0 and "run" in out and "check-config" in out and "publish-data-update" in out
    status, out, _ = run("run", "--help")
    assert status == 0
    for flag in ("--workers", "--host", "--port", "--broadcast-uri", "--broadcast-channel", "--ring-bytes"):
        assert flag in out, flag
    status, out, _ = run("--version")
    assert status == 0 and re.search(r"\d+\.\d+\.\d+", out)


def test_flag_beats_environment_and_old_names_count(opald, kafka, topic):
    kafka.create_topic(topic)
    port = free_port()
    server = opald(port=port, broadcast_uri=kafka.uri,
                   env={"OPAL_SERVER_BIND_PORT": "1", "UVICORN_NUM_WORKERS": "7", "OPAL_BROADCAST_URI": "kafka://127.0.0.1:1", "OPAL_BROADCAST_CHANNEL": topic})
    assert len(server.worker_pids()) == 1
    assert server.publish("t", {"a": 1}).status == 200
    assert len(kafka.read(topic, 1)) == 1


def test_environment_alone(work):
    """As a container starts it: no flags at all; Kubernetes' OPAL_SERVER_PORT=tcp://... is no port."""
    port = free_port()
    env = {"OPAL_SERVER_PORT": "tcp://10.0.0.1:7002", "OPAL_SERVER_BIND_PORT": port, "OPAL_SERVER_HOST": "127.0.0.1", "UVICORN_NUM_WORKERS": "2",
           "OPAL_SERVER_WORKER_COUNT": "5", "OPAL_BROADCAST_URI": "", "OPAL_LOG_COLORIZE": "no", "OPAL_REPO_WATCHER_ENABLED": "false"}
    process = Process("environment", [OPALD, "run"], work, {**sanitizer_environment(), **env})
    try:
        process.wait_until(lambda: _answers(port), 15, "answer")
        process.wait_until(lambda: len(process.children()) == 2, 5, "two workers")
        assert process.stop() == 0
        assert not process.sanitizer_report()
    finally:
        process.kill()


def _answers(port):
    try:
        return http_request(port, "GET", "/healthcheck", timeout=1).status == 200
    except (OSError, EOFError):
        return False


async def test_publish_data_update_command(opald):
    """Our command line tool does what the reference's does."""
    server = opald()

    async with RawClient.open(server.port) as client:
        await client.subscribe("policy_data")
        status, out, err = await asyncio.to_thread(
            run, "publish-data-update", "--server-url", f"http://127.0.0.1:{server.port}", "--src-url", "http://u/x", "-t", "policy_data", "--dst-path", "/users/bob/location")
        assert status == 0, out + err
        assert "Event Published Successfully" in out
        (notify,) = await client.expect(1)
        assert notify.data == {"id": None, "entries": [{"url": "http://u/x", "config": {}, "topics": ["policy_data"], "dst_path": "/users/bob/location",
                                                         "save_method": "PUT", "data": None}], "reason": "", "callback": {"callbacks": []}}
    status, out, err = run("publish-data-update", "--server-url", f"http://127.0.0.1:{free_port()}", "--src-url", "u", "-t", "x", "--dst-path", "/x")
    assert status == 1


# ---------------------------------------------------------------- systemd
class NotifySocket:
    """The service manager's end of sd_notify."""

    def __init__(self, path, abstract=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = f"@{path}" if abstract else str(path)
        self.socket.bind("\0" + str(path) if abstract else str(path))
        self.messages: list = []  # (time of arrival, text)
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self):
        while True:
            text = self.socket.recv(65536).decode()
            self.messages.append((time.monotonic(), text))

    def states(self) -> list:
        return [line for _, text in list(self.messages) for line in text.split("\n") if line]

    def beats(self) -> list:
        """When WATCHDOG=1 came."""
        return [at for at, text in list(self.messages) if "WATCHDOG=1" in text.split("\n")]


@pytest.mark.sanitize
@pytest.mark.parametrize("abstract", [False, True])
def test_ready_status_and_stopping(opald, work, abstract):
    notify = NotifySocket(work / "notify", abstract)
    server = opald(workers=3, env={"NOTIFY_SOCKET": notify.address}, ready=False)
    wait_until(lambda: "READY=1" in notify.states(), 15, "READY=1")
    # ready means: all workers are there and accept, now
    assert len(server.worker_pids()) == 3
    assert server.request("GET", "/healthcheck").status == 200
    wait_until(lambda: any(s.startswith("STATUS=") and "3 of 3 workers" in s for s in notify.states()), 5, "STATUS=")
    states = notify.states()
    assert states.count("READY=1") == 1
    assert not any(s.startswith("WATCHDOG=") for s in states), "nobody asked for a watchdog"
    # workers don't speak for the service
    for pid in server.worker_pids():
        assert b"NOTIFY_SOCKET" not in open(f"/proc/{pid}/environ", "rb").read()
    assert server.stop() == 0
    assert "STOPPING=1" in notify.states()


async def test_status_tells_about_connections_and_workers(opald, work):
    notify = NotifySocket(work / "notify")
    server = opald(workers=2, env={"NOTIFY_SOCKET": notify.address})

    clients = await connect_many(server.port, 10, "t")
    await asyncio.to_thread(wait_until, lambda: any("10 connections" in s for s in notify.states()), 5, "10 connections in STATUS=")
    await close_all(clients)
    await asyncio.to_thread(wait_until, lambda: " 0 connections" in [s for s in notify.states() if s.startswith("STATUS=")][-1], 5, "0 connections in STATUS=")


def test_watchdog_only_while_the_workers_beat(opald, work):
    notify = NotifySocket(work / "notify")
    server = opald(workers=2, env={"NOTIFY_SOCKET": notify.address, "WATCHDOG_USEC": "3000000"}, args=["--worker-hang-seconds", "600"], ready=False)
    server.any_exit = True
    wait_until(lambda: "READY=1" in notify.states(), 15, "READY=1")

    def beats(seconds):
        before = len(notify.beats())
        time.sleep(seconds)
        return len(notify.beats()) - before

    # at least each half of the three seconds
    assert beats(6) >= 4
    freeze(server.pid)
    time.sleep(0.2)
    assert beats(4) == 0
    os.kill(server.pid, signal.SIGCONT)
    wait_until(lambda: beats(1) > 0, 10, "WATCHDOG=1 again")


def test_watchdog_through_the_life_of_a_hung_worker(opald, work):
    """A hung worker is replaced before systemd would lose patience; while a worker is missing the service does not claim to be well."""
    notify = NotifySocket(work / "notify")
    server = opald(workers=2, env={"NOTIFY_SOCKET": notify.address, "WATCHDOG_USEC": "900000"}, args=["--worker-hang-seconds", "3"])
    hung = server.worker_pids()[0]
    wait_until(notify.beats, 5, "WATCHDOG=1")
    freeze(hung)
    wait_until(lambda: hung not in server.worker_pids(), 15, "end of the hung worker")
    ended = time.monotonic()
    wait_until(lambda: len(server.worker_pids()) == 2, 10, "a replacement")
    wait_until(lambda: notify.beats()[-1] > ended, 10, "WATCHDOG=1 again")
    beats = [at for at in notify.beats() if at < ended]
    assert max(later - earlier for earlier, later in zip(beats, beats[1:])) < scaled(1.6)


@pytest.mark.limit(60)
def test_no_watchdog_while_workers_die_young(opald, work):
    """Workers that are killed as soon as they appear: no WATCHDOG=1 while none serves."""
    notify = NotifySocket(work / "notify")
    server = opald(workers=1, env={"NOTIFY_SOCKET": notify.address, "WATCHDOG_USEC": "300000"})
    wait_until(notify.beats, 5, "WATCHDOG=1")
    deadline = time.monotonic() + 8
    missing = []
    while time.monotonic() < deadline:
        if pids := server.worker_pids():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        else:
            missing.append(time.monotonic())
        time.sleep(0.005)
    # the longest time without a worker (its start is delayed more and more)
    gaps, start = [], missing[0]
    for earlier, later in zip(missing, missing[1:]):
        if later - earlier > 0.1:
            gaps.append((start, earlier))
            start = later
    gaps.append((start, missing[-1]))
    first, last = max(gaps, key=lambda gap: gap[1] - gap[0])
    assert last - first > 1, "no time without a worker to look at"
    # what was sent just before may be read late; a server that goes on would send six a second
    assert not [at for at in notify.beats() if first + 0.3 < at < last]
    wait_until(lambda: server.worker_pids() and notify.beats()[-1] > last, 30, "WATCHDOG=1 again")
    assert _answers(server.port)


def test_sockets_from_systemd(work):
    """LISTEN_FDS: the socket that is handed over wins over host and port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    port = listener.getsockname()[1]
    # LISTEN_PID must be the program's own pid: a shell sets it and becomes the program
    script = f'exec 3<&{listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" run --port 1 --workers 2'
    process = Process("activated", ["bash", "-c", script, OPALD], work, sanitizer_environment(), pass_fds=[listener.fileno()])
    try:
        listener.close()
        process.wait_until(lambda: _answers(port), 15, "answer on the socket that was handed over")
        assert process.stop() == 0
        assert not process.sanitizer_report()
    finally:
        process.kill()


UNIT = ROOT / "deploy" / "opald.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed here")
def test_unit_file_is_valid(work):
    text = UNIT.read_text()
    binary = work / "opald"
    binary.symlink_to(OPALD)
    copy = work / "opald.service"
    copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={binary}", text, flags=re.M))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment())
    # other units of the machine may have faults of their own
    mine = [line for line in done.stdout.decode().splitlines() if "opald" in line]
    assert not mine, done.stdout.decode()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed here")
def test_unit_file_is_tight():
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15", UNIT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=clean_environment())
    assert done.returncode == 0, done.stdout.decode()[-2000:]


def test_unit_file_says_what_the_program_does():
    text = UNIT.read_text()
    for line in ("Type=notify", "NotifyAccess=main", "KillMode=mixed", "Restart=always", "ExecReload=/bin/kill -HUP $MAINPID", "WantedBy=multi-user.target"):
        assert line in text.splitlines(), line
    stop = int(re.search(r"^TimeoutStopSec=(\d+)$", text, re.M).group(1))
    status, out, _ = run("print-config")
    assert status == 0
    grace = float(re.search(r'GRACE_SECONDS"?\s*[:=]\s*"?([\d.]+)', out).group(1))
    assert stop > grace + 5, "systemd must not kill before the grace time is over"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
@pytest.mark.skipif(bool(SANITIZER), reason="sanitizers need more than the unit allows")
def test_runs_without_any_right(work):
    """As the unit runs it: no capability, an unprivileged user, no new privileges."""
    port = free_port()
    binary = work / "opald"
    shutil.copy2(OPALD, binary)
    os.chmod(work, 0o755)
    for folder in work.parents:
        if folder == folder.parent or not os.access(folder, os.W_OK) or folder.stat().st_uid != 0:
            continue
        if folder.stat().st_mode & 0o011 == 0 and "pytest" in str(folder):
            os.chmod(folder, 0o755)
    process = Process("unprivileged", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all", binary, "run", "--port", port, "--workers", "2"], work, cwd="/")
    try:
        process.wait_until(lambda: _answers(port), 15, "answer")
        assert process.stop() == 0
    finally:
        process.kill()


# ---------------------------------------------------------------- two servers behind haproxy
@pytest.fixture
def behind_haproxy(opald, kafka, topic, work):
    if not shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin"):
        pytest.skip("haproxy is not installed here")
    haproxy = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
    kafka.create_topic(topic)
    servers = [opald(workers=2, broadcast_uri=kafka.uri, channel=topic, args=["--grace-seconds", "4"]) for _ in range(2)]
    front = free_port()
    env = {"OPALD_FRONT": f"127.0.0.1:{front}", "OPALD_SERVER_1": f"127.0.0.1:{servers[0].port}", "OPALD_SERVER_2": f"127.0.0.1:{servers[1].port}"}
    config = ROOT / "deploy" / "haproxy.cfg"
    checked = subprocess.run([haproxy, "-c", "-f", config], env=clean_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert checked.returncode == 0, checked.stdout.decode()
    proxy = Process("haproxy", [haproxy, "-db", "-f", config], work, env)
    try:
        proxy.wait_until(lambda: _answers(front), 20, "answer through haproxy")
        # both have passed a health check
        time.sleep(2.5)
        yield servers, front
    finally:
        proxy.kill()


@pytest.mark.limit(120)
async def test_two_servers_behind_haproxy(behind_haproxy):
    """Clients land on both; an event reaches all of them; one server ends and its clients come back through the proxy."""
    servers, front = behind_haproxy

    clients = await connect_many(front, 24, "t")
    held = [sum(1 for line in open("/proc/net/tcp") if line.split()[1].endswith(f":{server.port:04X}") and line.split()[3] == "01") for server in servers]
    assert all(count >= 8 for count in held), held
    publisher = await RawClient.connect(front)
    for i in range(20):
        assert await publisher.publish("t", i)
    for client in clients:
        await client.expect(20, 15)
        assert [n.data for n in client.notifies] == list(range(20))
    # one server goes for maintenance
    servers[0].send_signal(signal.SIGTERM)
    gone = []

    def closed():
        gone[:] = [client for client in clients if client.is_ending()]
        return len(gone) >= 8 and not servers[0].is_running()

    await asyncio.wait_for(_poll(closed), scaled(15))
    assert {client.close_code for client in gone} == {1012}
    back = await connect_many(front, len(gone), "t")
    if publisher.is_ending():
        publisher = await RawClient.connect(front)
    assert await publisher.publish("t", "end")
    for client in back + [c for c in clients if c not in gone]:
        await client.until(lambda c: c.notifies and c.notifies[-1].data == "end", 10, "the last event")
    await close_all(clients + back + [publisher])


async def _poll(condition):
    while not condition():
        await asyncio.sleep(0.05)


def test_http_through_haproxy(behind_haproxy):
    servers, front = behind_haproxy
    for _ in range(6):
        assert http_request(front, "GET", "/healthcheck").json() == {"status": "ok"}
        assert json.loads(http_request(front, "GET", "/data/config").body)["entries"]
