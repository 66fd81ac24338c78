"""A hosts file that lists ::1 first for localhost, as Debian's does: every outgoing connection tries all addresses of a name, and
`make run` listens on both loopback addresses. Each program runs in a mount namespace with such a file (root only)."""

import ctypes
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from harness import OPALD, clean_environment, free_port, scaled

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
HOSTS = "::1 localhost ip6-localhost ip6-loopback\n127.0.0.1 localhost\n"
UPDATE = ["--src-url", "http://x", "--topic", "t"]


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root"), pytest.mark.skipif(not has_ipv6(), reason="no ::1 here")]


@pytest.fixture
def hosts(tmp_path):
    """Called in a child before its exec: it then sees that file as /etc/hosts."""
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    libc = ctypes.CDLL(None, use_errno=True)

    def mount():
        for done in (libc.unshare(CLONE_NEWNS), libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
                     libc.mount(bytes(path), b"/etc/hosts", None, MS_BIND, None)):
            if done != 0:
                raise OSError(ctypes.get_errno(), "no mount namespace")

    return mount


def run(hosts, *arguments, env=None):
    done = subprocess.run([OPALD, *map(str, arguments)], env=clean_environment(env), capture_output=True, text=True, timeout=scaled(60), preexec_fn=hosts)
    return done.returncode, done.stdout, done.stderr


def test_commands_try_every_address(opald, hosts):
    server = opald()  # on 127.0.0.1 alone
    status, out, err = run(hosts, "publish-data-update", "--server-url", f"http://localhost:{server.port}", *UPDATE)
    assert status == 0 and "Event Published Successfully" in out, (out, err)
    status, out, err = run(hosts, "obtain-token", "anything", "--server-url", f"http://localhost:{server.port}")
    assert status == 1 and err.startswith("opald: no token: status "), err  # it has no keys, but it was reached


def test_run_on_localhost_takes_both(opald, hosts):
    server = opald(host="localhost", preexec_fn=hosts, ready=False)
    server.wait_for_log("Application startup complete", 20)
    assert set(re.findall(r"listening on http://(\S+)", server.log())) == {f"127.0.0.1:{server.port}", f"[::1]:{server.port}"}
    for url in (f"http://127.0.0.1:{server.port}", f"http://[::1]:{server.port}", f"http://localhost:{server.port}"):
        assert run(hosts, "publish-data-update", "--server-url", url, *UPDATE)[0] == 0, url


def test_make_run_does_so():
    assert "run --host localhost --port 7002" in (Path(__file__).parents[2] / "Makefile").read_text()


def test_statsd_finds_the_agent(opald, hosts):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(scaled(10))
        opald(preexec_fn=hosts, env={"OPAL_ENABLE_METRICS": "true", "OPAL_STATSD_PORT": str(agent.getsockname()[1]), "OPAL_STATSD_INTERVAL": "0.2"})
        lines = b""
        while b"permit.opal.startup:1|c" not in lines:
            lines += agent.recv(65536)


def test_a_name_that_does_not_resolve_is_called_that(hosts):
    status, _, err = run(hosts, "publish-data-update", "--server-url", f"http://no-such-host.invalid:{free_port()}", *UPDATE)
    assert status == 1 and "there is no such host" in err
