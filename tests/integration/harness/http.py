"""A plain HTTP/1.1 client on a bare socket: it sends what it is told, also what is wrong, and shows replies to the byte."""

import json as json_module
import socket
import time
from dataclasses import dataclass, field

from .paths import scaled


@dataclass
class Response:
    status: int
    reason: str
    headers: list  # of (name as sent, value), in order
    body: bytes
    head: bytes = b""
    interim: list = field(default_factory=list)  # status numbers of 1xx replies before it

    def header(self, name: str):
        """Value of the first header of that name, any case; None when absent."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    def header_names(self) -> list:
        return [key for key, _ in self.headers]

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self):
        return json_module.loads(self.body)


class HttpConnection:
    """One TCP connection. `request` builds a request; `send` sends raw bytes; `read_response` reads one reply."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = 10, receive_buffer: int | None = None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(scaled(timeout))
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = port
        self.host = host
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data: bytes):
        self.socket.sendall(data)

    def _fill(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def _line_end(self, marker: bytes) -> int:
        while True:
            at = self.buffer.find(marker)
            if at >= 0:
                return at
            if not self._fill():
                raise EOFError(f"connection ended within a head; got {self.buffer[:300]!r}")

    def read_response(self, head_request: bool = False) -> Response:
        """Raises EOFError when the peer closes before a whole head, TimeoutError when nothing comes."""
        interim = []
        while True:
            end = self._line_end(b"\r\n\r\n")
            head, self.buffer = self.buffer[: end + 4], self.buffer[end + 4:]
            lines = head[:-4].decode("latin-1").split("\r\n")
            parts = lines[0].split(" ", 2)
            status = int(parts[1])
            headers = [tuple(x.strip() for x in line.split(":", 1)) for line in lines[1:]]
            if 100 <= status < 200 and status != 101:
                interim.append(status)
                continue
            break
        response = Response(status, parts[2] if len(parts) > 2 else "", headers, b"", head, interim)
        length = response.header("content-length")
        if head_request or status in (101, 204, 304):
            return response
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            while True:
                end = self._line_end(b"\r\n")
                size = int(self.buffer[:end].split(b";")[0], 16)
                self.buffer = self.buffer[end + 2:]
                while len(self.buffer) < size + 2:
                    if not self._fill():
                        raise EOFError("connection ended within a chunk")
                response.body += self.buffer[:size]
                self.buffer = self.buffer[size + 2:]
                if size == 0:
                    return response
        if length is None:
            while self._fill():
                pass
            response.body, self.buffer = self.buffer, b""
            return response
        while len(self.buffer) < int(length):
            if not self._fill():
                raise EOFError(f"body ended after {len(self.buffer)} of {length} bytes")
        response.body, self.buffer = self.buffer[: int(length)], self.buffer[int(length):]
        return response

    def request(self, method: str, target: str, body=None, headers=None, json=None) -> Response:
        """`headers`: dict or list of pairs, sent as they are behind Host; content-length is added when there is a body."""
        self.send(build_request(method, target, f"{self.host}:{self.port}", body, headers, json))
        return self.read_response(head_request=method == "HEAD")

    def read_all(self) -> bytes:
        """Everything until the peer closes (or resets)."""
        while self._fill():
            pass
        data, self.buffer = self.buffer, b""
        return data

    def is_closed_by_peer(self, seconds: float = 0) -> bool:
        """True when EOF or a reset arrives within `seconds` (scaled); bytes that come first are kept."""
        deadline = time.monotonic() + scaled(seconds)
        try:
            while True:
                self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
                if not self._fill():
                    return True
        except (TimeoutError, BlockingIOError):
            return False
        finally:
            self.socket.settimeout(scaled(10))


def build_request(method: str, target: str, host: str, body=None, headers=None, json=None) -> bytes:
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    names = {name.lower() for name, _ in pairs}
    if json is not None:
        body = json_module.dumps(json)
        if "content-type" not in names:
            pairs.append(("content-type", "application/json"))
    if isinstance(body, str):
        body = body.encode()
    if body is not None and "content-length" not in names and "transfer-encoding" not in names:
        pairs.append(("content-length", str(len(body))))
    if "host" not in names:
        pairs.insert(0, ("Host", host))
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs) + "\r\n"
    return head.encode("latin-1") + (body or b"")


def http_request(port: int, method: str, target: str, body=None, headers=None, json=None, timeout: float = 10) -> Response:
    """One request on a connection of its own."""
    with HttpConnection(port, timeout=timeout) as connection:
        return connection.request(method, target, body, headers, json)


def http_bytes(port: int, raw: bytes, timeout: float = 10) -> bytes:
    """Sends raw bytes and returns everything the server says until it closes or is silent for `timeout`."""
    with HttpConnection(port, timeout=timeout) as connection:
        connection.send(raw)
        try:
            return connection.read_all()
        except TimeoutError:
            return connection.buffer


def is_healthy(port: int) -> bool:
    try:
        return http_request(port, "GET", "/healthcheck", timeout=2).status == 200
    except (OSError, EOFError, ValueError, IndexError):
        return False
