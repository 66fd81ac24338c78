"""Runs the commands of the guides: each block marked `sh`, in the order of the page, in one shell."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from harness import free_port
from harness.paths import OPA, OPALD, ROOT, VENV
from harness.process import clean_environment

pytestmark = pytest.mark.limit(180)

GUIDE = ROOT / "deploy/guide"


def commands(page: str) -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (GUIDE / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    return "".join(blocks)


def run(script: str, folder: Path, environment: dict, ports: dict) -> subprocess.CompletedProcess:
    """In FOLDER, where build/opald is the program under test. `ports`: those of the page -> free ones."""
    (folder / "build").mkdir()
    (folder / "build/opald").symlink_to(OPALD)
    for port, free in ports.items():
        assert str(port) in script, f"the page does not name port {port}"
        script = script.replace(str(port), str(free))
    path = {"PATH": f"{OPA.parent}:{VENV}/bin:{os.environ['PATH']}"}
    # a process group of its own: whatever a failed page leaves behind is killed with it
    printed = folder / "printed"
    with printed.open("wb") as out:
        shell = subprocess.Popen(["bash", "-xeumo", "pipefail", "-c", script], cwd=folder, env=clean_environment({**path, **environment}),
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = shell.wait(150)
        except subprocess.TimeoutExpired:
            status = "it hangs"
        finally:
            subprocess.run(["pkill", "-KILL", "-s", str(shell.pid)], check=False)
            shell.wait()
    return subprocess.CompletedProcess(script, status, printed.read_text())


def test_getting_started(kafka, tmp_path):
    opa = free_port()
    environment = {
        # where the page's ports are taken by others: those of the client's own listener and of its OPA
        "OPAL_CLIENT_API_SERVER_PORT": str(free_port()),
        "OPAL_INLINE_OPA_CONFIG": f'{{"addr": "localhost:{opa}"}}',
        "OPAL_POLICY_STORE_URL": f"http://localhost:{opa}",
        "OPAL_OPA_V0_COMPAT": "false",  # the pinned OPA is older than the flag that this option passes
        "UVICORN_PORT": "7002",
    }
    ports = {9092: kafka.port, 7002: free_port(), 8181: opa, 8000: free_port()}
    environment["UVICORN_PORT"] = str(ports[7002])
    done = run(commands("getting-started"), tmp_path, environment, ports)
    assert done.returncode == 0, done.stdout + (tmp_path / "opald.log").read_text()[-3000:]
    assert '"role":"admin"' in done.stdout
    assert '"dst_path": "/users/bob"' in done.stdout


def test_migrating(tmp_path):
    done = run(commands("migrating"), tmp_path, {"OPAL_BROADCAST_URI": "kafka://localhost:9092", "UVICORN_NUM_WORKERS": "2"}, {})
    assert done.returncode == 0, done.stdout
