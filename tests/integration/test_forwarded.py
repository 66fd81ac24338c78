"""X-Forwarded-For and X-Forwarded-Proto behind an HTTP load balancer: the address in the access log and in /pubsub_client_info, and the
scheme of a redirect, are those of the reference for the same headers."""

import concurrent.futures
import re
import socket
import subprocess
import time

import pytest

from harness import Opald, Reference, scaled
from harness.http import HttpConnection
from harness.paths import OPALD
from harness.wire import handshake_request

# what the server trusts; the tests come from 127.0.0.1, or 127.0.0.2 where the peer must be a stranger
TRUSTED = "127.0.0.1, 10.0.0.0/8,fd00::/8"
EVERYBODY = "*"
PEERS = {TRUSTED: ("127.0.0.1", "127.0.0.2"), EVERYBODY: ("127.0.0.2",)}

ADDRESSES = [
    [],
    ["198.51.100.7"],
    ["198.51.100.7, 203.0.113.9"],
    ["198.51.100.7 ,10.1.2.3:80,  127.0.0.1"],
    ["10.1.2.3:8080,10.9.9.9"],
    ["203.0.113.9:33210"],
    ["2001:db8::1"],
    ["[2001:db8::1]:443, fd00::1, [fd00::2]:80"],
    ["2001:DB8:0::1"],
    ["198.51.100.7, unknown"],
    ["198.51.100.7, _hidden, 10.0.0.1"],
    ["198.51.100.7:port"],
    ["198.51.100.7:"],
    ["[::1"],
    ["[::1]x"],
    [""],
    ["198.51.100.7, "],
    [", 198.51.100.7"],
    ["198.51.100.7", "203.0.113.9, 10.0.0.1", "10.0.0.2"],
    ["10.0.0.1", "fd00::5"],
    ["010.0.0.1, 10.0.0.01"],
]
SCHEMES = [[], ["https"], ["http"], ["ws"], ["wss"], ["HTTPS"], ["https,http"], [""], ["ftp"], ["http", "https"], ["https", "x"]]


class From(HttpConnection):
    """A connection from another address of this machine."""

    def __init__(self, port: int, address: str):
        self.socket = socket.create_connection(("127.0.0.1", port), scaled(10), (address, 0))
        self.port, self.host, self.buffer = port, "127.0.0.1", b""


def headers(name: str, values) -> str:
    return "".join(f"{name}: {value}\r\n" for value in values)


def logged(server, pattern: str) -> str:
    end = time.monotonic() + scaled(10)
    while True:
        found = re.search(pattern, server.log())
        if found:
            return found.group(1)
        assert time.monotonic() < end, f"no line with {pattern}"
        time.sleep(0.02)


def anonymous(text: str, connection: From) -> str:
    host, port = connection.socket.getsockname()
    return text.replace(f"{host}:{port}", f"{host}:PORT")


def answers(server, trusted: str) -> dict:
    """(peer, headers) -> what the server makes of them."""
    seen = {}
    for peer in PEERS[trusted]:
        mark = f"{peer}-{'all' if trusted == EVERYBODY else 'some'}"
        http = From(server.port, peer)  # one connection for all, as of a load balancer
        sockets = []
        for number, values in enumerate(ADDRESSES):
            http.send(f"GET /healthcheck?{mark}-{number}z HTTP/1.1\r\nHost: x\r\n{headers('X-Forwarded-For', values)}\r\n".encode())
            assert http.read_response().status == 200
            address = logged(server, rf'(\S+) - "GET /healthcheck\?{mark}-{number}z HTTP')
            one = From(server.port, peer)
            sockets.append(one)
            pairs = {f"{'x' if i % 2 else 'X'}-{'Forwarded-For' if i < 2 else 'FORWARDED-FOR'}": value for i, value in enumerate(values)}
            one.send(handshake_request(f"/ws?__opal_client_id={mark}-{number}z", pairs))
            assert one.read_response().status == 101
            accepted = logged(server, rf'(\S+) - "WebSocket /ws\?__opal_client_id={mark}-{number}z" \[accepted\]')
            seen[peer, "for", *values] = [anonymous(address, http), anonymous(accepted, one)]
        http.send(b"GET /pubsub_client_info HTTP/1.1\r\nHost: x\r\n\r\n")
        info = http.read_response().json()
        for number, (values, one) in enumerate(zip(ADDRESSES, sockets)):
            row = info[f"{mark}-{number}z"]
            seen[peer, "for", *values].append(anonymous(f"{row['source_host']}:{row['source_port']}", one))
            one.close()
        for values in SCHEMES:
            http.send(f"GET /healthcheck/ HTTP/1.1\r\nHost: name:1\r\n{headers('X-Forwarded-Proto', values)}\r\n".encode())
            reply = http.read_response()
            assert reply.status == 307
            seen[peer, "proto", *values] = reply.header("location")
        http.close()
    return seen


@pytest.mark.limit(150)
def test_as_the_reference(work):
    kinds = [(make, trusted) for make in (Reference, Opald) for trusted in PEERS]

    def run(number):
        make, trusted = kinds[number]
        server = make(work, name=f"{make.__name__.lower()}{number}", env={"FORWARDED_ALLOW_IPS": trusted})
        try:
            return answers(server, trusted)
        finally:
            server.kill()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        theirs, theirs_all, ours, ours_all = pool.map(run, range(len(kinds)))
    assert ours == theirs
    assert ours_all == theirs_all
    # the table shows something: it is not that nobody ever looks at the headers
    assert ours["127.0.0.1", "for", "198.51.100.7, 203.0.113.9"] == ["203.0.113.9:0"] * 3
    assert ours["127.0.0.2", "for", "198.51.100.7, 203.0.113.9"] == ["127.0.0.2:PORT"] * 3
    assert ours_all["127.0.0.2", "for", "198.51.100.7, 203.0.113.9"] == ["198.51.100.7:0"] * 3
    assert ours["127.0.0.1", "proto", "https"] == "https://name:1/healthcheck"
    assert ours["127.0.0.2", "proto", "https"] == "http://name:1/healthcheck"


@pytest.mark.sanitize
def test_limits_and_log_lines(opald):
    server = opald(env={"OPAL_FORWARDED_MAX_ADDRESSES": "4"}, args=["--forwarded-allow-ips", "127.0.0.1"])
    with From(server.port, "127.0.0.1") as http:
        own = "%s:%d" % http.socket.getsockname()

        def address(number, value):
            http.send(f"GET /healthcheck?{number}z HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {value}\r\n\r\n".encode("latin-1"))
            assert http.read_response().status == 200
            return logged(server, rf'(\S+) - "GET /healthcheck\?{number}z HTTP')

        assert address(1, "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4") == "4.4.4.4:0"
        assert address(2, "1.1.1.1,2.2.2.2,3.3.3.3,4.4.4.4,5.5.5.5") == own
        assert address(3, '6.6.6.6:1 - "GET / HTTP/1.1" 200') == own
        assert address(4, "7" * 64) == own
        assert address(5, "\xe9") == own
        assert address(6, "8" * 63) == "8" * 63 + ":0"
        metrics = server.request("GET", "/metrics").text
        assert re.search(r"forwarded_headers_refused(_total)? 4\b", metrics)
        assert f"{own}: X-Forwarded-For is not believed: more addresses than OPAL_FORWARDED_MAX_ADDRESSES" in server.log()
    # what a websocket's later lines say
    with From(server.port, "127.0.0.1") as one:
        one.send(handshake_request("/ws", {"X-Forwarded-For": "198.51.100.7"}))
        assert one.read_response().status == 101
        one.send(b"\x81\x01a")  # not masked
        server.wait_for_log("Websocket protocol error from port 0 of 198.51.100.7:")


def test_wrong_option_stops_the_start():
    run = subprocess.run([OPALD, "run", "--forwarded-allow-ips", "10.0.0.0/8,balancer"], capture_output=True, text=True, timeout=scaled(20))
    assert run.returncode != 0
    assert "OPAL_FORWARDED_ALLOW_IPS: 'balancer' is no address and no network" in run.stderr + run.stdout
