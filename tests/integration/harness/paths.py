"""Where things are, and how patient to be."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("OPALD_TEST_CACHE") or Path.home() / ".cache" / "opald-tests")


def _current(name: str) -> Path:
    """tests/setup keeps each pinned tool in NAME-<hash> and a link `current-NAME` to the one in force."""
    link = CACHE / f"current-{name}"
    return link if link.exists() else CACHE / name


VENV = Path(os.environ.get("OPALD_TEST_VENV") or _current("venv"))
KAFKA_LIBS = Path(os.environ.get("OPALD_TEST_KAFKA") or _current("kafka")) / "libs"
OPA = Path(os.environ.get("OPALD_TEST_OPA") or (_current("opa") / "opa" if (CACHE / "current-opa").exists() else CACHE / "bin" / "opa"))

# The program under test. `make SAN=address test` sets it to build/address/opald.
OPALD = Path(os.environ.get("OPALD") or ROOT / "build" / "opald").absolute()

# "address", "thread" or "": decides how much slower everything is allowed to be.
SANITIZER = os.environ.get("OPALD_SANITIZER", "")
SCALE = {"": 1.0, "address": 2.5, "thread": 5.0}[SANITIZER] * float(os.environ.get("OPALD_TEST_SCALE", "1"))


def scaled(seconds: float) -> float:
    """A limit for "this must happen by then": stretched for slow builds. Never use it for a time that must not be shorter."""
    return seconds * SCALE


def built_driver(name: str) -> Path:
    """A program of the tests, built before them by `make drivers` with what is under test."""
    path = OPALD.parent / "tests" / name
    assert path.exists(), f"{path} is not built: make drivers"
    return path
