"""Turns runs into figures: medians over rounds, and the tables."""

import os
import platform
import statistics
import subprocess
from pathlib import Path


def machine() -> dict:
    """What the figures were measured on."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor() or platform.machine())
    memory = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            cwd=Path(__file__).parent).stdout.strip()
    dirty = subprocess.run(["git", "diff", "--quiet", "HEAD"], stderr=subprocess.DEVNULL, cwd=Path(__file__).parent).returncode == 1
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory / 2**20, 1),
            "kernel": f"{platform.system()} {platform.release()}", "commit": (commit + (" with changes" if dirty else "")) if commit else None,
            "load_average": round(os.getloadavg()[0], 2)}


def phase(run: dict, index: int) -> dict:
    return run["phases"][index]


def median(runs: list, pick) -> float | None:
    """The median of pick(run) over the runs; None without runs or where a run has no such figure."""
    try:
        values = [pick(run) for run in runs]
    except (IndexError, KeyError):
        return None
    return statistics.median(values) if values else None


def number(value, digits: int = 3) -> str:
    """Three digits that mean something: 0.0412, 4.12, 412, 412,345."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return text if "e" not in text else f"{value:f}"


def microseconds(value) -> str:
    """As ms where that reads better."""
    if value is None:
        return "-"
    return f"{number(value / 1000)} ms" if value >= 1000 else f"{number(value)} us"


def ratio(value, base) -> str:
    return "-" if value is None or not base else f"{value / base:.2f}"


def table(head: list, rows: list, left: int = 1) -> str:
    """A Markdown table that also reads well as text: the first `left` columns to the left, the others to the right."""
    cells = [[str(c) for c in row] for row in [head] + rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]

    def line(row):
        return "| " + " | ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |"

    rule = "|" + "|".join("-" * (w + 1) + ("-" if i < left else ":") for i, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule] + [line(row) for row in cells[1:]])
