"""What tests/layout and tests/circles share: the folders of the product and the table in tests/layout.mk."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOPS = ("server", "worker", "broadcast", "shm")


def product_files(pattern):
    """The product's files of that pattern, as paths from the top folder."""
    return [path.relative_to(ROOT) for top in TOPS for path in sorted((ROOT / top).rglob(pattern))]


def read_table():
    """table[folder] = the folders that its line names."""
    table = {}
    for line in (ROOT / "tests/layout.mk").read_text().splitlines():
        match = re.fullmatch(r"knows_(\S+)\s*:=\s*(.*)", line)
        if match:
            table[match[1]] = match[2].split()
    return table


def closure(table, folder, above=()):
    """All that FOLDER may know, itself too."""
    if folder in above:
        raise SystemExit(f"not ok tests/layout.mk: {' -> '.join((*above, folder))} is a circle")
    known = {folder}
    for below in table[folder]:
        known |= closure(table, below, (*above, folder))
    return known
