"""A websocket peer on a bare socket: it sends any frame, right or wrong, and lists what comes back."""

import base64
import json
import os
import socket
import struct
import time

from .http import HttpConnection
from .paths import scaled

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
NAMES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake_request(path: str = "/ws", headers=None, drop=(), host: str = "127.0.0.1:1") -> bytes:
    pairs = {"Host": host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}
    for name in drop:
        pairs.pop(name)
    pairs.update(headers or {})
    return (f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in pairs.items()) + "\r\n").encode("latin-1")


def frame(opcode: int, payload: bytes = b"", fin: bool = True, mask: bool = True, rsv: int = 0, length: int | None = None) -> bytes:
    """`length` overrides the length that the header claims."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | (rsv << 4) | opcode])
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    repeated = key * (len(payload) // 4 + 1)
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")).to_bytes(len(payload), "big") if payload else b""
    return head + key + masked


class WireClient:
    """Opens /ws. `read` gives ('text', str), ('binary', bytes), ('ping'|'pong', bytes), ('close', code, reason) or ('eof',);
    a fragmented message from the server is shown as it came, piece by piece."""

    def __init__(self, port: int, path: str = "/ws", headers=None, timeout: float = 10, receive_buffer: int | None = None):
        self.http = HttpConnection(port, timeout=timeout, receive_buffer=receive_buffer)
        self.timeout = timeout
        self.http.send(handshake_request(path, headers, host=f"127.0.0.1:{port}"))
        self.response = self.http.read_response()
        assert self.response.status == 101, self.response
        self.socket = self.http.socket

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.http.close()

    def send(self, data: bytes):
        """Raw bytes; a peer that has closed already is no error here (what it said is read afterwards)."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def text(self, text, **options):
        self.send(frame(TEXT, text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text, **options))

    def request(self, method: str, arguments=None, call_id: str = "c1", **extra):
        self.text(json.dumps({"request": {"method": method, "arguments": {} if arguments is None else arguments, "call_id": call_id}, **extra}))

    def _need(self, count: int, deadline: float) -> bool:
        while len(self.http.buffer) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(262144)
            except ConnectionResetError:
                data = b""
            if not data:
                return False
            self.http.buffer += data
        return True

    def _take(self, count: int) -> bytes:
        data, self.http.buffer = self.http.buffer[:count], self.http.buffer[count:]
        return data

    def read(self, timeout: float | None = None):
        """One frame; TimeoutError when none comes."""
        deadline = time.monotonic() + scaled(self.timeout if timeout is None else timeout)
        if not self._need(2, deadline):
            return ("eof",)
        first, second = self.http.buffer[0], self.http.buffer[1]
        size, header = second & 0x7F, 2
        if size == 126:
            if not self._need(4, deadline):
                return ("eof",)
            size, header = struct.unpack(">H", self.http.buffer[2:4])[0], 4
        elif size == 127:
            if not self._need(10, deadline):
                return ("eof",)
            size, header = struct.unpack(">Q", self.http.buffer[2:10])[0], 10
        assert not second & 0x80, "a server must not mask"
        if not self._need(header + size, deadline):
            return ("eof",)
        self._take(header)
        payload = self._take(size)
        name = NAMES.get(first & 0x0F, f"opcode {first & 0x0F}")
        if not first & 0x80:
            name += " unfinished"
        if name == "close":
            code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else None
            return ("close", code, payload[2:].decode("utf-8", "replace"))
        if name.startswith("text"):
            return (name, payload.decode("utf-8"))
        return (name, payload)

    def read_until_quiet(self, quiet: float = 0.3, end: float = 10) -> list:
        """All frames until the peer closes, or has been silent for `quiet` seconds after something came."""
        frames = []
        deadline = time.monotonic() + scaled(end)
        while time.monotonic() < deadline:
            try:
                got = self.read(quiet)
            except TimeoutError:
                break
            frames.append(got)
            if got[0] == "eof":
                break
        return frames

    def closes(self, timeout: float = 10):
        """Reads until the end; returns (code, reason), or (1006, '') for an end without a close frame."""
        found = (1006, "")
        deadline = time.monotonic() + scaled(timeout)
        while time.monotonic() < deadline:
            got = self.read(timeout)
            if got[0] == "close":
                found = got[1:]
                self.send(frame(CLOSE, struct.pack(">H", got[1]) if got[1] else b""))
            if got[0] == "eof":
                return found
        raise TimeoutError
