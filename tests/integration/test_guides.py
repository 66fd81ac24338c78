"""README and guides: their generated tables, their length, their links. `python test_guides.py --write` writes the tables."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GUIDE = ROOT / "deploy/guide"
PAGES = [README, *sorted(GUIDE.glob("*.md"))]
sys.path.insert(0, str(ROOT / "tests/integration/harness"))  # alone: the package needs what the tests' own Python has
from differences import DIFFERENCES, markdown  # noqa: E402


def options():
    opald = os.environ.get("OPALD") or ROOT / "build" / "opald"
    return subprocess.run([opald, "options", "--markdown"], check=True, capture_output=True, text=True).stdout


TABLES = {"options": options, "differences": markdown}  # in the guide of that name


def parts(text, name):
    head, rest = text.split(f"<!-- {name} -->\n")
    shown, tail = rest.split(f"<!-- /{name} -->")
    return head, shown, tail


def write():
    for name, table in TABLES.items():
        page = GUIDE / f"{name}.md"
        head, _, tail = parts(page.read_text(), name)
        page.write_text(f"{head}<!-- {name} -->\n{table()}<!-- /{name} -->{tail}")


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_the_present_ones(name):
    assert parts((GUIDE / f"{name}.md").read_text(), name)[1].strip() == TABLES[name]().strip()


def test_variables_are_named_as_they_are_read():
    """TLS_CERTIFICATE instead of OPAL_TLS_CERTIFICATE would be ignored in silence, and the listener be a plain one."""
    text = "".join(page.read_text() for page in PAGES)
    read = {name for line in options().splitlines() if line.startswith("| `--") for name in re.findall(r"`([A-Z][A-Z_]+)`", line.split("|")[2])}
    named = set(re.findall(r"`([A-Z][A-Z_]+)(?:=[^`]*)?`", text))
    assert "OPAL_TLS_CERTIFICATE" in read & named
    assert not {name for name in named - read if f"OPAL_{name}" in read}


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert not wrong


def test_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 180
    assert not [line for line in lines if len(line) > 110]


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
