"""The project's goals for the fan-out, each beside its figure from this run."""

from figures import median, microseconds, number

MIB = 2**20
LARGE_QUEUE, LARGE_EVENTS = 256, (8, 16)  # MiB that a client may leave unread; events before and in the measured stretch


def rows(results: dict) -> list:
    """[[goal's number, what, figure, goal, met]]"""
    found = []

    def runs(section, name):
        return results["runs"].get(section, {}).get(name, [])

    def figure(section, name, pick):
        return median(runs(section, name), pick)

    def phase(index, key, part=None):
        return lambda run: run["phases"][index][key][part] if part else run["phases"][index][key]

    def add(goal, what, value, limit, text=None, most=True, show=number):
        met = "-" if value is None else ("yes" if (value <= limit if most else value >= limit) else "NO")
        found.append([goal, what, "-" if value is None else text or show(value), ("at most " if most else "at least ") + show(limit), met])

    def compare(goal, what, section, base, pick, limit, show):
        ours, theirs = figure(section, "opald", pick), figure(section, base, pick)
        value = ours / theirs if ours is not None and theirs else None
        add(goal, what, value, limit, None if value is None else f"{value:.2f} ({show(ours)} : {show(theirs)})")

    cpu = "servers_cpu_us_per_delivery"
    us = lambda value: f"{number(value)} us"
    compare("1", "lock step, 1,000 clients: CPU a delivery : bare", "fanout", "bare", phase(0, cpu), 1.1, us)
    compare("2", "32 in flight, 1,000 clients: CPU a delivery : bare, coalesced", "fanout", "bare_coalesced", phase(1, cpu), 1.5, us)
    compare("2", "32 in flight, 10,000 clients: the same", "many", "bare_coalesced", phase(1, cpu), 1.5, us)
    for section, clients in (("peers", "1,000"), ("peers_many", "10,000")):
        for peer, name in (("nats", "nats-server"), ("nchan", "nchan")):
            compare("2", f"32 in flight, {clients} clients: CPU a delivery : {name}", section, peer, phase(2, cpu), 1, us)
    counted = (results.get("instructions") or {}).get("figures", {})
    with_replies, without = (counted.get(f"worker, lock step{w}, per delivery") for w in ("", ", no replies"))
    times = [figure("replies", name, phase(0, cpu)) for name in ("opald", "opald_silent", "bare", "bare_silent")]
    if None not in times:
        share = ((times[0] - times[1]) - (times[2] - times[3])) / times[0]
        add("3", "reading a reply, beyond what it costs bare: part of a delivery's CPU", share, 0.2, f"{share:.2f} (with and without replies {us(times[0])}, "
            f"{us(times[1])}; bare {us(times[2])}, {us(times[3])}" + (f"; instructions {number(with_replies)}, {number(without)})" if with_replies else ")"))
    pss = lambda run: run["connect"]["servers_pss_bytes_per_client"]
    add("4", "idle, 10,000 clients with 2 topics: PSS bytes each", figure("many", "opald", pss), 600)
    add("4", "idle, 18,000 clients: PSS bytes each", figure("idle", "opald", pss), 600)
    add("5", "10,000 clients: accept and subscribe, CPU us each", figure("many", "opald", lambda run: run["connect"]["servers_cpu_us_per_client"]), 40)
    add("5", "10,000 connects at once: refused or reset", figure("burst", "opald", lambda run: run["connect"]["failed"]), 0)
    add("5", "... while a worker that was killed is replaced", figure("burst_kill", "opald", lambda run: run["connect"]["failed"]), 0)
    for part in ("p50", "p99"):
        compare("6", f"10 events/s, 1,000 clients: publish to a client's socket, {part} : bare", "fanout", "bare", phase(2, "arrival", f"{part}_us"), 1.1, microseconds)
    for part in ("p50", "p99"):
        compare("6", f"Kafka produce to last of 1,000 clients, {part} : bare consumer", "kafka", "bare", phase(0, "last", f"{part}_us"), 1.15, microseconds)
    scale_rows(results, found, add)
    large_rows(figure, add)
    few, many = (figure("topics", name, phase(0, cpu)) for name in ("10 clients", "10,000 clients"))
    if few and many:
        add("9", "event for 10 of 10,000 clients with 20 topics each: CPU : the same with these 10 alone, one topic each", many / few, 1.1,
            f"{many / few:.2f} ({us(many * 10)} : {us(few * 10)} an event)")
    drain = runs("drain", "opald")
    rate = figure("drain", "opald", lambda run: run["phases"][-1]["events"] / run["phases"][-1]["seconds"])
    queued = f"{drain[0]['phases'][-1]['events']:,}" if drain else "2,000,000"
    add("10", f"{queued} queued Kafka events to 10 clients, in order: events/s", rate, 100000, most=False)
    # what the consumer has fetched ahead comes and goes by 25 MB, so peaks are compared with peaks
    growth = figure("drain", "opald", lambda run: (run["phases"][-1]["pss_peak"] / max(run["phases"][-1]["pss_first_half"], 1)))
    add("10", "... memory's peak : its peak in the first half", growth, 1.05)
    # lost and closed clients are what this run is for, so it counts whole or not
    closed = [run["phases"][-1]["closed"] for run in drain + [f["run"] for f in results["failed"] if f["section"] == "drain" and "run" in f]]
    if closed:
        add("10", "... clients closed because they fell behind (default limit: 4 MiB unread)", max(closed), 0)
    for section, clients in (("fanout", "1,000"), ("many", "10,000")):
        add("also", f"{clients} clients: fullest worker : mean", figure(section, "opald", lambda run: run["connect"]["fullest_process"] / (run["connect"]["ready"] / 2)), 1.2)
    add("also", "1,000 clients, lock step: part of the events that one client is the last to get", figure("fanout", "opald", phase(0, "last_client_share")), 0.05)
    return found


def scale_rows(results, found, add):
    import scale
    from figures import median as middle
    of = lambda section, name, pick: middle(results["runs"].get(section, {}).get(name, []), pick)
    for curve, unit, lines in scale.curves(results, of):
        for name, line in lines:
            if len(line) > 1:
                value = scale.spread(line)
                add("7", f"{unit} by {curve}, {name}: dearest : cheapest point", value, 1.1 if "instructions" in unit else 1.25,
                    f"{value:.2f} ({', '.join(number(y) for _, y in line)})")


def large_rows(figure, add):
    last = lambda run: run["phases"][1]["last"]["p50_us"]
    alone, mixed = figure("large", "fast", last), figure("large", "fast and slow", last)
    if alone and mixed:
        add("8", "1 MiB to 100 fast clients beside 1,000 slow ones: time to the last fast one, p50 : without the slow", mixed / alone, 1.1,
            f"{mixed / alone:.2f} ({microseconds(mixed)} : {microseconds(alone)})")
    growth = figure("large", "fast and slow", lambda run: (max(p["pss_peak"] for p in run["phases"]) - run["connect"]["servers_pss_bytes_before"]) / MIB)
    # the ring is touched as it fills, each worker keeps one copy of what slow clients have not taken
    add("8", f"... memory that {sum(LARGE_EVENTS)} events of 1 MiB took, MiB (limit: ring, a copy a worker, 64 KiB a client)", growth, 128 + 2 * sum(LARGE_EVENTS) + 1100 / 16)
    cut = figure("large_limit", "opald", lambda run: (max(p["pss_peak"] for p in run["phases"]) - run["connect"]["servers_pss_bytes_before"]) / MIB)
    add("8", "... with the default limit of 4 MiB that a client may leave unread, MiB", cut, 128 + 2 * sum(LARGE_EVENTS) + 1100 / 16)
