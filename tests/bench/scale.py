"""The curves of make bench-scale: what a delivery costs as workers, topics and others' subscriptions grow, what an event costs the master as clients
grow. Measures them, and draws them as one SVG, with nothing but Python."""

import re
import subprocess
from pathlib import Path

import subjects
from figures import number

HOOK = "#!/bin/sh\ncase $1 in start) what=zero ;; *) what=dump ;; esac\nvgdb --pid=$3 $what >/dev/null 2>&1\n"


ELSEWHERE = "clients subscribed to other topics"


def plans(quick: bool) -> dict:
    """Curve: [(x, options of the load generator, options of the server)]. Two modes each: lock step and 32 in flight."""
    clients = 200 if quick else 1000
    return {
        "workers": [(n, {"clients": clients, "topics": 2}, {"workers": n}) for n in (1, 2, 4, 8)],
        # the live topic and ones that each client has for itself; the first point: nine that all share
        "topics in the index": [(10, {"clients": clients, "topics": 10}, {})] + [
            (clients * own + 1, {"clients": clients, "topics": own + 1, "own_topics": True}, {}) for own in ((1, 50) if quick else (1, 10, 100))],
        # these have topics that no event is for
        ELSEWHERE: [(others, {"clients": clients + others, "elsewhere": others, "topics": 2}, {}) for others in ((0, 1000) if quick else (0, 1000, 4000, 9000))],
    }


def master_points(quick: bool) -> tuple:
    return (1, 100, 1000) if quick else (1, 100, 1000, 10000)


def master_instructions(bench, clients: int) -> float:
    """Instructions that an event costs the master in lock step: it alone runs under callgrind."""
    folder = bench.work / f"master-{clients}-{len(list(bench.work.iterdir()))}"
    folder.mkdir()
    program, shim, wrapper, hook = (folder / name for name in ("opald", "exec_path.so", "opald-counted", "hook"))
    subprocess.run(["objcopy", "--strip-debug", bench.opald, program], check=True)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", shim, Path(__file__).parent / "exec_path.c"], check=True)
    wrapper.write_text(f"#!/bin/sh\nexport OPALD_BENCH_PROGRAM={program} LD_PRELOAD={shim}\nexec valgrind --quiet --tool=callgrind --trace-children=no "
                       f"--callgrind-out-file={folder}/callgrind.%p {program} \"$@\"\n")
    hook.write_text(HOOK)
    for path in (wrapper, hook):
        path.chmod(0o755)
    events = 200
    programs = subjects.Programs(wrapper, bench.programs.folder, folder)
    try:
        subject = subjects.Opald(programs)
        try:
            run = subjects.load(programs, subject, ["idle:2", f"lockstep:{events}"], clients=clients, topics=2, stall=30, hook=hook)
        finally:
            subject.stop()
    finally:
        from harness import servers
        servers.OPALD = bench.programs.opald
    if not run["good"]:
        raise RuntimeError(f"the run was not whole: {run['phases']}")
    at_rest, busy = (int(re.search(r"^(?:totals|summary): (\d+)", (folder / f"callgrind.{subject.server.pid}.{part}").read_text(errors="replace"), re.M)[1])
                     for part in (1, 2))
    # the load generator waits at least 0.1 s until the servers rest; what their clocks do all the time is not an event's cost
    return (busy - at_rest / 2 * (run["phases"][1]["seconds"] + 0.15)) / events


def events(options: dict, quick: bool) -> list:
    """Phases of about as many deliveries for each point."""
    each = options["clients"] - options.get("elsewhere", 0)
    total = 20000 if quick else 100000
    return [f"lockstep:{max(total // each, 20)}", f"burst:32:{max(4 * total // each, 64)}"]


def measure(bench, rounds: int):
    """Adds runs "scale" and results["master"]: {clients: [instructions]}."""
    for _ in range(rounds):
        for curve, points in plans(bench.quick).items():
            for x, options, server in points:
                bench.one("scale", f"{curve}: {x}", lambda: subjects.Opald(bench.programs, **server), events(options, bench.quick), **options)
    bench.results["master"] = {}
    for clients in master_points(bench.quick):
        bench.say(f"scale: master, {clients} clients")
        try:
            bench.results["master"][str(clients)] = master_instructions(bench, clients)
        except Exception as error:
            bench.fail("scale", f"master, {clients} clients", error)


def curves(results: dict, median_of) -> list:
    """[(title, unit of y, [(name of the line, [(x, y)])])], of what was measured."""
    found = []
    names = {}
    for name in results["runs"].get("scale", {}):
        curve, x = name.rsplit(": ", 1)
        names.setdefault(curve, []).append(int(x))
    for curve, xs in names.items():
        lines = []
        for index, mode in enumerate(("lock step", "32 in flight")):
            points = [(x, median_of("scale", f"{curve}: {x}", lambda run: run["phases"][index]["servers_cpu_us_per_delivery"])) for x in xs]
            lines.append((mode, [(x, y) for x, y in points if y is not None]))
        found.append((curve, "us CPU a delivery", lines))
    if results.get("master"):
        found.append(("clients", "instructions of the master an event", [("lock step", [(int(x), y) for x, y in results["master"].items()])]))
    return found


def spread(line: list) -> float:
    """Most over least."""
    ys = [y for _, y in line]
    return max(ys) / min(ys) if ys and min(ys) > 0 else 0


def svg(found: list) -> str:
    """Panels side by side, two a row. The x axis has one step for each measured point: what counts is that the line is flat."""
    wide, high, left, bottom, top = 430, 250, 56, 44, 34
    rows = (len(found) + 1) // 2
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide * 2}" height="{high * rows}" font-family="sans-serif" font-size="11">',
           f'<rect width="{wide * 2}" height="{high * rows}" fill="#ffffff"/>']
    for place, (curve, unit, lines) in enumerate(found):
        x0, y0 = wide * (place % 2), high * (place // 2)
        most = max((y for _, line in lines for _, y in line), default=1) * 1.2
        xs = sorted({x for _, line in lines for x, _ in line})

        def at(x, y):
            return (x0 + left + (wide - left - 40) * (xs.index(x) / max(len(xs) - 1, 1)) + 10, y0 + high - bottom - (high - bottom - top) * y / most)

        out.append(f'<text x="{x0 + left}" y="{y0 + 18}" font-weight="bold">{unit}, by {curve}</text>')
        for i in range(5):
            y = at(xs[0], most * i / 4)[1] if xs else 0
            out.append(f'<line x1="{x0 + left}" x2="{x0 + wide - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
                       f'<text x="{x0 + left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555555">{number(most * i / 4, 2)}</text>')
        for x in xs:
            out.append(f'<text x="{at(x, 0)[0]:.1f}" y="{y0 + high - bottom + 16}" text-anchor="middle" fill="#555555">{x:,}</text>')
        for index, (name, line) in enumerate(lines):
            color, points = ("#1f5fa8", "#c2571a")[index % 2], [at(*point) for point in line]
            out.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in points]
            out += [f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle" fill="{color}">{number(value)}</text>' for (x, y), (_, value) in zip(points, line)]
            out.append(f'<text x="{x0 + left + 10 + 110 * index}" y="{y0 + high - 8}" fill="{color}">{name}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"
