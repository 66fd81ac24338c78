"""A program: many websocket clients in one process, cheap enough for a million events. Each subscribes, answers what it is sent, comes back after each
end of its connection as opal-client does, and writes down what it saw.

    recorder.py TOPIC PORT:COUNT ...        clients are numbered in this order
Commands on standard input, one JSON line as the answer to each:
    status   [[subscribed, how many events, {source: last number}], ...]
    log      [["+", "a0", "a1", "-1012", "+", "a7"], ...]   + (re)subscribed: here opal-client refetches; -CODE closed; a7 event 7 of source a
    end
An event is a data update whose reason is "SOURCE NUMBER", as in {"reason": "a 7"}. No extension is offered, so frames are plain."""

import asyncio
import json
import random
import re
import sys

EVENT = re.compile(rb'"reason": "([a-z]) (\d+)"')
CALL = re.compile(rb'"call_id": "([0-9a-f]+)"')
SUBSCRIBED = re.compile(rb'"result": true')
COME_BACK_SECONDS = 0.5


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame; a mask of zeros leaves the payload as it is."""
    if len(payload) < 126:
        return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload
    return bytes([0x80 | opcode, 0x80 | 126, len(payload) >> 8, len(payload) & 255, 0, 0, 0, 0]) + payload


class Client(asyncio.Protocol):
    def __init__(self, port: int, topic: str):
        self.port, self.topic = port, topic
        self.log: list[str] = []
        self.last: dict[str, int] = {}
        self.events = 0
        self.subscribed = False

    async def live(self):
        loop = asyncio.get_running_loop()
        while True:
            self.buffer, self.upgraded, self.code = b"", False, 1006
            self.ended = loop.create_future()
            try:
                self.transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self.port)
                self.transport.write(b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
                await self.ended
                if self.subscribed:
                    self.log.append(f"-{self.code}")
            except OSError:
                pass
            self.subscribed = False
            await asyncio.sleep(random.random() * COME_BACK_SECONDS)

    def connection_lost(self, error):
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data):
        self.buffer += data
        if not self.upgraded:
            head, mark, rest = self.buffer.partition(b"\r\n\r\n")
            if not mark:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.transport.abort()
                return
            self.upgraded, self.buffer = True, rest
            self.transport.write(frame(1, json.dumps({"request": {"method": "subscribe", "arguments": {"topics": [self.topic]}, "call_id": "5ab5"},
                                                      "response": None}).encode()))
        buffer, at, out = self.buffer, 0, []
        while len(buffer) - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(buffer[at + 2:at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(buffer[at + 2:at + 10], "big"), at + 10
            if len(buffer) < start + length:
                break
            assert buffer[at] & 0xf0 == 0x80, "a frame in parts"
            self.take(buffer[at] & 15, buffer[start:start + length], out)
            at = start + length
        self.buffer = buffer[at:]
        if out:
            self.transport.write(b"".join(out))

    def take(self, opcode, payload, out):
        if opcode == 1:
            event = EVENT.search(payload)
            if event:
                source, number = event[1].decode(), int(event[2])
                self.log.append(f"{source}{number}")
                self.last[source] = number
                self.events += 1
                call = CALL.search(payload, payload.rindex(b'"call_id"'))
                out.append(frame(1, b'{"request": null, "response": {"result": "None", "result_type": "str", "call_id": "%s"}}' % call[1]))
            elif SUBSCRIBED.search(payload):
                self.log.append("+")
                self.subscribed = True
        elif opcode == 8:
            self.code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self.transport.write(frame(8, payload[:2]))
            self.transport.close()
        elif opcode == 9:
            out.append(frame(10, payload))


async def main():
    topic = sys.argv[1]
    clients = [Client(int(port), topic) for port, count in (x.split(":") for x in sys.argv[2:]) for _ in range(int(count))]
    tasks = [asyncio.create_task(client.live()) for client in clients]
    while True:
        command = (await asyncio.to_thread(sys.stdin.readline)).strip()
        broken = [task for task in tasks if task.done()]
        if broken:
            broken[0].result()
        if command == "status":
            answer = [[client.subscribed, client.events, client.last] for client in clients]
        elif command == "log":
            answer = [client.log for client in clients]
        else:
            return
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
