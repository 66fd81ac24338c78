"""README's tables of options and of differences. `python test_readme.py --write` puts the present ones there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
sys.path.insert(0, str(ROOT / "tests/integration/harness"))  # alone: the package needs what the tests' own Python has
from differences import DIFFERENCES, markdown  # noqa: E402


def options():
    opald = os.environ.get("OPALD") or ROOT / "build" / "opald"
    return subprocess.run([opald, "options", "--markdown"], check=True, capture_output=True, text=True).stdout


TABLES = {"options": options, "differences": markdown}


def parts(text, name):
    head, rest = text.split(f"<!-- {name} -->\n")
    shown, tail = rest.split(f"<!-- /{name} -->")
    return head, shown, tail


def write():
    text = README.read_text()
    for name, table in TABLES.items():
        head, _, tail = parts(text, name)
        text = f"{head}<!-- {name} -->\n{table()}<!-- /{name} -->{tail}"
    README.write_text(text)


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_present_ones(name):
    assert parts(README.read_text(), name)[1].strip() == TABLES[name]().strip()


def test_variables_are_named_as_they_are_read():
    """TLS_CERTIFICATE instead of OPAL_TLS_CERTIFICATE would be ignored in silence, and the listener be a plain one."""
    text = README.read_text()
    read = {name for line in options().splitlines() if line.startswith("| `--") for name in re.findall(r"`([A-Z][A-Z_]+)`", line.split("|")[2])}
    named = set(re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", text))
    assert "OPAL_TLS_CERTIFICATE" in read & named
    assert not {name for name in named - read if f"OPAL_{name}" in read}


def test_differences_have_tests():
    texts = {}
    wrong = []
    for one in DIFFERENCES:
        if bool(one.tests) == bool(one.untested):
            wrong.append(f"{one.id}: either tests or a reason why there are none")
        for test in one.tests:
            file, _, function = test.partition("::")
            path = ROOT / "tests" / (file if file.startswith("unit/") else f"integration/{file}")
            if path not in texts:
                texts[path] = path.read_text() if path.is_file() else ""
            start = r"static void" if path.suffix == ".c" else r"(?:async )?def"
            if not re.search(rf"^{start} {re.escape(function)}\(", texts[path], re.MULTILINE):
                wrong.append(f"{one.id}: there is no {test}")
            if path.suffix == ".c" and not re.search(rf"^ +(cmocka_unit_test\w*|TEST)\({function}\b", texts[path], re.MULTILINE):
                wrong.append(f"{one.id}: {test} is never run")
    assert not wrong, "\n".join(wrong)
    ids = [one.id for one in DIFFERENCES]
    assert len(ids) == len(set(ids))


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
