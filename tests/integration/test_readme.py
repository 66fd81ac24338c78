"""README's table of options is the program's own. `python test_readme.py --write` puts the present one there."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
BEGIN, END = "<!-- options -->\n", "<!-- /options -->"


def table():
    opald = os.environ.get("OPALD") or ROOT / "build" / "opald"
    return subprocess.run([opald, "options", "--markdown"], check=True, capture_output=True, text=True).stdout


def parts(text):
    head, rest = text.split(BEGIN)
    shown, tail = rest.split(END)
    return head, shown, tail


def test_options_are_those_of_the_program():
    assert parts(README.read_text())[1].strip() == table().strip()


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    head, _, tail = parts(README.read_text())
    README.write_text(head + BEGIN + table() + END + tail)
