"""Free TCP ports for servers that the tests start."""

import os
import random
import socket

_given: set[int] = set()
_random = random.Random()

FIRST, LAST = 20000, 32000
SHARES = 8


def _share() -> range:
    """Tests that run side by side (pytest-xdist's gw0, gw1, ...) each have a part of the ports of their own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        return range(FIRST, LAST)
    size = (LAST - FIRST) // SHARES
    first = FIRST + int(worker.removeprefix("gw")) % SHARES * size
    return range(first, first + size)


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on. Taken from below the kernel's range for outgoing connections, so that none of
    those can grab it between now and the server's bind; never the same twice in one run."""
    share = _share()
    for _ in range(1000):
        port = _random.choice(share)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError(f"no free port in {share}")
