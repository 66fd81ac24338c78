"""Child processes of the tests: started in a process group of their own, logged to a file, ended for certain."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

from .paths import scaled

# Everything that was started in the running test (conftest empties and shows it).
started: list["Process"] = []

SANITIZER_MARKS = re.compile(
    rb"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|AddressSanitizer:DEADLYSIGNAL|"
    rb"FATAL: ThreadSanitizer|runtime error:"
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def clean_environment(extra: dict | None = None) -> dict:
    """The caller's environment without anything that could configure a server or client under test."""
    prefixes = ("OPAL_", "KAFKA_", "UVICORN_", "GUNICORN_", "WEB_CONCURRENCY", "OPALD", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "PYTHON")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
    environment["LC_ALL"] = "C.UTF-8"
    environment["PYTHONUNBUFFERED"] = "1"
    environment.update({k: str(v) for k, v in (extra or {}).items()})
    return environment


class Died(AssertionError):
    pass


class Process:
    """One child with its process group. `log` holds standard output and error together."""

    def __init__(self, name: str, argv: list, work: Path, env: dict | None = None, cwd: Path | None = None, **popen):
        self.name = name
        work.mkdir(parents=True, exist_ok=True)
        self.work = work
        self.log_path = work / f"{name}.log"
        self.argv = [str(a) for a in argv]
        self.expected_sanitizer_output = False
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=clean_environment(env),
                cwd=cwd or work, start_new_session=True, **popen,
            )
        self.pid = self.popen.pid
        started.append(self)

    # ---- state
    def is_running(self) -> bool:
        return self.popen.poll() is None

    @property
    def exit_code(self):
        return self.popen.poll()

    def log_bytes(self) -> bytes:
        try:
            return self.log_path.read_bytes()
        except FileNotFoundError:
            return b""

    def log(self) -> str:
        """The log so far without colours."""
        return ANSI.sub("", self.log_bytes().decode("utf-8", "replace"))

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def children(self) -> list[int]:
        """Live direct children (zombies are not counted)."""
        return [pid for pid in child_pids(self.pid) if process_state(pid) not in ("Z", "")]

    # ---- waiting
    def wait_until(self, condition, seconds: float, what: str, interval: float = 0.02):
        """Polls until condition() is true; its value is returned. Fails at once when the process ends."""
        deadline = time.monotonic() + scaled(seconds)
        while True:
            value = condition()
            if value:
                return value
            if not self.is_running():
                raise Died(f"{self.name} ended with {self.exit_code} while waiting for {what}\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: no {what} within {scaled(seconds):.1f} s\n{self.log_tail()}")
            time.sleep(interval)

    def wait_for_log(self, pattern: str, seconds: float = 10, count: int = 1):
        """Waits until the regular expression has matched `count` times; returns all matches."""
        expression = re.compile(pattern)

        def find():
            found = list(expression.finditer(self.log()))
            return found if len(found) >= count else None

        return self.wait_until(find, seconds, f"log line {pattern!r}")

    def wait(self, seconds: float = 15):
        """The exit code, once it has ended by itself or by a signal sent before."""
        try:
            return self.popen.wait(scaled(seconds))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {scaled(seconds):.1f} s\n{self.log_tail()}") from None

    # ---- signals
    def send_signal(self, number: int):
        self.popen.send_signal(number)

    def kill_group(self, number: int = signal.SIGKILL):
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def stop(self, seconds: float = 20):
        """TERM, then KILL after a while; the whole group is gone afterwards. Returns the exit code (-9 when it had to be killed)."""
        if self.is_running():
            self.kill_group(signal.SIGCONT)
            self.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(scaled(seconds))
            except subprocess.TimeoutExpired:
                pass
        self.kill()
        return self.exit_code

    def kill(self):
        self.kill_group(signal.SIGKILL)
        self.popen.wait()

    def sanitizer_report(self) -> str:
        """What a sanitizer printed, or the empty string."""
        log = self.log_bytes()
        if self.expected_sanitizer_output:
            return ""
        match = SANITIZER_MARKS.search(log)
        return log[match.start(): match.start() + 6000].decode("utf-8", "replace") if match else ""


def process_state(pid: int) -> str:
    """The state letter of /proc/PID/stat; empty when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


def freeze(pid: int):
    """SIGSTOP, until it holds: the threads of a process go on until one of them has been given the processor to take the signal."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: process_state(pid) in ("T", "Z", ""), 10, f"standstill of process {pid}", interval=0.001)


def command_line(pid: int) -> list[bytes]:
    """Its words; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def child_pids(pid: int) -> list[int]:
    found = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []
    for task in tasks:
        try:
            found += [int(x) for x in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return sorted(found)


def live_children(pid: int, flag: str) -> list[int]:
    """Children with this word in their command line that have not died, lowest pid first."""
    return [child for child in child_pids(pid) if flag.encode() in command_line(child) and process_state(child) not in ("Z", "")]


def descendant_pids(pid: int) -> list[int]:
    found = []
    for child in child_pids(pid):
        found += [child, *descendant_pids(child)]
    return found


def group_pids(group: int) -> list[int]:
    """Live processes of a process group (zombies are not counted)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.name))
    return sorted(found)


def wait_until(condition, seconds: float = 10, what: str = "condition", interval: float = 0.02):
    """Polls condition() until it is true and returns its value; fails after `seconds` (scaled)."""
    deadline = time.monotonic() + scaled(seconds)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {scaled(seconds):.1f} s")
        time.sleep(interval)
