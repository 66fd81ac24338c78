"""What a failure leaves behind: a status of 1 when no worker can ever start, and no core dump."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

SOURCE = r"""
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void end_workers(void)
{
    char line[4096] = "";
    int fd = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = read(fd, line, sizeof line - 1);
    close(fd);
    if (length > 0 && memmem(line, (size_t)length, "--as-worker", 11))
        _exit(3);
}
"""


@pytest.fixture
def preload(tmp_path):
    library = tmp_path / "no_workers.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-x", "c", "-o", library, "-"], input=SOURCE, text=True, check=True)
    return {"LD_PRELOAD": str(library)}


def test_no_worker_ever_starts(opald, preload):
    server = opald(workers=2, env={**preload, "OPAL_WORKER_START_ATTEMPTS": "3"}, ready=False)
    server.wait_until(lambda: not server.is_running(), 20, "its end")
    assert server.exit_code == 1
    log = server.log()
    assert "no worker can start: ending after 3 attempts of each" in log
    assert log.count("exited with status 3") >= 6


def test_zero_keeps_trying(opald, preload):
    server = opald(env={**preload, "OPAL_WORKER_START_ATTEMPTS": "0"}, ready=False)
    server.wait_until(lambda: server.log().count("exited with status 3") >= 5, 20, "five attempts")
    assert server.is_running()
    server.stop()


def test_one_that_served_once_is_always_replaced(opald):
    server = opald(workers=1, env={"OPAL_WORKER_START_ATTEMPTS": "1"})
    for _ in range(3):
        before = server.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        server.wait_until(lambda: server.worker_pids() and server.worker_pids() != before, 20, "another worker")
    assert server.is_running()


# ---- core dumps
def core_limits(pids):
    return {line for pid in pids for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core file size")}


def with_core_dumps():
    resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.RLIM_INFINITY))


def test_no_core_dumps(opald):
    server = opald(workers=2, preexec_fn=with_core_dumps)
    assert {tuple(line.split()[4:6]) for line in core_limits([server.pid, *server.worker_pids()])} == {("0", "0")}
    server = opald(preexec_fn=with_core_dumps, env={"OPAL_CORE_DUMPS": "true"})
    assert {line.split()[4] for line in core_limits([server.pid, *server.worker_pids()])} == {"4096"}
