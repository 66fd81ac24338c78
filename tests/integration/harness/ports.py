"""Free TCP ports for servers that the tests start."""

import random
import socket

_given: set[int] = set()
_random = random.Random()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on. Taken from below the kernel's range for outgoing connections, so that none of
    those can grab it between now and the server's bind; never the same twice in one run."""
    for _ in range(1000):
        port = _random.randrange(20000, 32000)
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
    raise RuntimeError("no free port between 20000 and 32000")
