"""Fixtures of the end-to-end tests, a time limit for each test, and the logs of all processes when one fails."""

import signal
import sys
import time
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import KafkaBroker, OpalClient, Opald, Reference, DataSource, scaled  # noqa: E402
from harness import process as process_module  # noqa: E402
from harness.paths import OPALD  # noqa: E402

DEFAULT_LIMIT = 90  # seconds for one test, its setup and its teardown each


def pytest_configure(config):
    config.addinivalue_line("markers", "limit(seconds): another time limit for this test")
    config.addinivalue_line("markers", "sanitize: also run with the address build in the plain `make test`")


def pytest_report_header(config):
    return f"program under test: {OPALD}"


# ---- a time limit for each phase of each test
def _limited(item, phase):
    marker = item.get_closest_marker("limit")
    seconds = scaled(marker.args[0] if marker else DEFAULT_LIMIT) + (60 if phase == "setup" else 0)

    def late(*_):
        raise TimeoutError(f"{item.nodeid}: {phase} took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(int(seconds) + 1)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _limited(item, "setup"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _limited(item, "call"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    return (yield from _limited(item, "teardown"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for process in process_module.started:
            state = "running" if process.is_running() else f"ended with {process.exit_code}"
            # of servers that many tests share only the end is of interest; the whole log is in the file
            lines = 15 if process.name.startswith("shared") else 60
            report.sections.append((f"{process.name} (pid {process.pid}, {state}; {process.log_path})", process.log_tail(lines)))
    return report


# ---- a file of which every test is skipped has tested nothing: that fails the run
_passed_over = {}


def pytest_runtest_logreport(report):
    if report.when == "call" or report.skipped or report.failed:
        name = report.nodeid.split("::")[0]
        _passed_over[name] = _passed_over.get(name, True) and report.skipped


def pytest_terminal_summary(terminalreporter):
    for name in _all_skipped():
        terminalreporter.write_line(f"ERROR {name}: all of its tests were skipped")


def pytest_sessionfinish(session):
    if _all_skipped() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _all_skipped():
    return sorted(name for name, skipped in _passed_over.items() if skipped)


# ---- processes
@pytest.fixture
def work(tmp_path) -> Path:
    """A folder of the test's own. What the test started in it ends with the test."""
    yield tmp_path
    for process in process_module.started:
        if tmp_path in Path(process.log_path).parents:
            process.kill()


class _Factory:
    """Starts processes on demand and ends all of them after the test."""

    def __init__(self, make):
        self.make = make
        self.made = []

    def __call__(self, *arguments, **keywords):
        keywords.setdefault("name", f"{self.make.__name__.lower()}{len(self.made) or ''}")
        made = self.make(*arguments, **keywords)
        self.made.append(made)
        return made


def _factory(make, work, after=None):
    # a process that fails to become ready raises in its constructor: it is found in `started`
    before = len(process_module.started)
    factory = _Factory(make)
    factory_call = factory.__call__
    yield lambda *a, **k: factory_call(work, *a, **k)
    mine = [p for p in process_module.started[before:] if isinstance(p, make)]
    problems = []
    for process in reversed(mine):
        if after:
            problems += after(process)
        process.kill()
    if problems:
        pytest.fail("\n".join(problems))


def _end_opald(server: Opald) -> list:
    """Each opald that a test leaves running must end by TERM with status 0, leave no worker behind, and have printed no report of a sanitizer."""
    problems = []
    was_running = server.is_running()
    code = server.stop(15)
    if was_running and code != 0 and not getattr(server, "any_exit", False):
        problems.append(f"{server.name}: exit status {code} after SIGTERM")
    if server.sanitizer_report():
        problems.append(f"{server.name}: {server.sanitizer_report()}")
    # one that was killed with its parent (a builder with hundreds of megabytes) may take a moment to be gone
    deadline = time.monotonic() + 2
    while (left := process_module.group_pids(server.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        problems.append(f"{server.name}: processes left behind: {left}")
    return problems


@pytest.fixture
def opald(work):
    """opald(workers=1, broadcast_uri=None, channel=None, env={}, args=[], port=None, ready=True) starts one and waits until it serves."""
    yield from _factory(Opald, work, _end_opald)


@pytest.fixture
def reference(work):
    """reference(workers=1, broadcast_uri=None, channel=None, env={}): opal-server 0.9.9."""
    yield from _factory(Reference, work)


@pytest.fixture
def opal_client(work):
    """opal_client(server.port, topics='policy_data', env={}): the real opal-client with its own OPA."""
    yield from _factory(OpalClient, work)


@pytest.fixture
def source():
    made = DataSource()
    yield made
    made.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory) -> KafkaBroker:
    """One broker for all tests that don't hurt it. Use the `topic` fixture for a name of your own."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    yield broker
    broker.stop()


@pytest.fixture
def own_kafka(work):
    """A broker that the test may kill, stop and start again."""
    broker = KafkaBroker(work, name="own-kafka")
    yield broker
    broker.stop()


@pytest.fixture
def topic(request) -> str:
    """A topic (channel) name nobody else uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def shared_reference(tmp_path_factory) -> Reference:
    """One plain reference server (one worker, no backbone) for tests that only ask it questions."""
    server = Reference(tmp_path_factory.mktemp("reference"), name="shared-reference")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_opald(tmp_path_factory) -> Opald:
    """One plain opald (one worker, no backbone), the counterpart of shared_reference."""
    server = Opald(tmp_path_factory.mktemp("opald"), name="shared-opald")
    yield server
    problems = _end_opald(server)
    assert not problems, problems


@pytest.fixture(autouse=True)
def _forget_processes():
    """Keeps the list of processes to show down to those alive at the start of the test and those it starts."""
    process_module.started[:] = [p for p in process_module.started if p.is_running()]
    yield
