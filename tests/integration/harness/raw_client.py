"""A websocket client that speaks the RPC of fastapi_websocket_rpc by hand, on asyncio."""

import asyncio
import json
import time
import uuid
from dataclasses import dataclass

import websockets
from websockets.asyncio.client import connect

from .paths import scaled


@dataclass
class Notify:
    topic: str
    data: object
    at: float        # time.monotonic() of its arrival
    raw: str         # the whole message
    subscription: dict
    call_id: str

    def data_text(self) -> str:
        """The JSON text of `data` as it came, digit for digit."""
        marker = '}, "data": '
        start = self.raw.index(marker) + len(marker)
        end = self.raw.rindex('}, "call_id": ')
        return self.raw[start:end]


class RawClient:
    """Use `await RawClient.connect(server.port)` or `async with RawClient.open(server.port) as client`.
    Notifies are collected in `notifies` and answered unless reply=False. Everything else the server asks is kept in `requests`."""

    def __init__(self, socket, reply: bool):
        self.socket = socket
        self.reply = reply
        self.notifies: list[Notify] = []
        self.requests: list[dict] = []
        self.close_code: int | None = None
        self.close_reason: str | None = None
        self._waiting: dict[str, asyncio.Future] = {}
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, port: int, reply: bool = True, path: str = "/ws", headers=None, compression=None, host: str = "127.0.0.1",
                      timeout: float = 10, **options) -> "RawClient":
        options.setdefault("ping_interval", None)
        socket = await asyncio.wait_for(
            connect(f"ws://{host}:{port}{path}", compression=compression, additional_headers=headers or {}, max_size=None,
                    open_timeout=scaled(timeout), proxy=None, close_timeout=2, **options),
            scaled(timeout),
        )
        return cls(socket, reply)

    @classmethod
    def open(cls, port: int, **options):
        return _Opened(cls, port, options)

    @property
    def local_port(self) -> int:
        return self.socket.local_address[1]

    @property
    def is_closed(self) -> bool:
        return self._task.done()

    async def _read(self):
        try:
            async for message in self.socket:
                at = time.monotonic()
                await self._take(message, at)
        except websockets.ConnectionClosed:
            pass
        finally:
            # 1006 stands for an end without a close frame
            self.close_code = self.socket.close_code
            self.close_reason = self.socket.close_reason
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError(f"closed with {self.close_code}"))
                    future.exception()
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, message, at: float):
        parsed = json.loads(message)
        request, response = parsed.get("request"), parsed.get("response")
        if response:
            future = self._waiting.pop(response.get("call_id"), None)
            if future and not future.done():
                future.set_result(response)
        if request:
            if request["method"] == "notify":
                arguments = request["arguments"]
                self.notifies.append(Notify(arguments["subscription"]["topic"], arguments.get("data"), at, message, arguments["subscription"], request["call_id"]))
                if self.reply:
                    await self.respond(request["call_id"], "None")
            else:
                self.requests.append(request)
        async with self._changed:
            self._changed.notify_all()

    async def respond(self, call_id, result, result_type="str"):
        try:
            await self.socket.send(json.dumps({"request": None, "response": {"result": result, "result_type": result_type, "call_id": call_id}}))
        except websockets.ConnectionClosed:
            pass

    async def send(self, text):
        """A raw text (str) or binary (bytes) message."""
        await self.socket.send(text)

    async def start_call(self, method: str, arguments: dict | None = None) -> asyncio.Future:
        """Sends a request; the future holds the response object."""
        call_id = uuid.uuid4().hex
        future = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        await self.socket.send(json.dumps({"request": {"method": method, "arguments": arguments or {}, "call_id": call_id}, "response": None}))
        return future

    async def call(self, method: str, arguments: dict | None = None, timeout: float = 10):
        """The result of an RPC; ConnectionError when the server closes instead."""
        response = await asyncio.wait_for(await self.start_call(method, arguments), scaled(timeout))
        return response["result"]

    async def subscribe(self, *topics, timeout: float = 10):
        return await self.call("subscribe", {"topics": list(topics)}, timeout)

    async def unsubscribe(self, *topics):
        return await self.call("unsubscribe", {"topics": list(topics)})

    async def publish(self, topics, data=None, timeout: float = 10, **arguments):
        return await self.call("publish", {"topics": [topics] if isinstance(topics, str) else list(topics), "data": data, **arguments}, timeout)

    async def publish_text(self, topic: str, data_text: str, timeout: float = 10):
        """Publishes `data_text` as it stands (it need not survive Python's json)."""
        call_id = uuid.uuid4().hex
        future = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        await self.socket.send('{"request": {"method": "publish", "arguments": {"topics": [%s], "data": %s}, "call_id": "%s"}, "response": null}'
                               % (json.dumps(topic), data_text, call_id))
        return (await asyncio.wait_for(future, scaled(timeout)))["result"]

    async def channel_id(self) -> str:
        return await self.call("_get_channel_id_")

    async def until(self, condition, timeout: float = 10, what: str = "condition"):
        """Waits until condition(self) is true; looked at again after each message and at the end of the connection."""
        if condition(self):
            return

        async def wait():
            async with self._changed:
                await self._changed.wait_for(lambda: condition(self))
        try:
            await asyncio.wait_for(wait(), scaled(timeout))
        except (asyncio.TimeoutError, TimeoutError):
            raise AssertionError(f"no {what} within {scaled(timeout):.1f} s; {len(self.notifies)} notifies, closed: {self.close_code}") from None

    async def expect(self, count: int, timeout: float = 10) -> list[Notify]:
        """Waits for `count` notifies in all and returns them; fails when the connection ends first."""
        await self.until(lambda c: len(c.notifies) >= count or c.is_ending(), timeout, f"{count} notifies")
        assert len(self.notifies) >= count, f"closed with {self.close_code} after {len(self.notifies)} of {count} notifies"
        return self.notifies

    def is_ending(self) -> bool:
        return self.close_code is not None

    async def wait_closed(self, timeout: float = 10) -> int:
        """The close code (1006: the connection ended without one)."""
        await asyncio.wait_for(asyncio.shield(self._task), scaled(timeout))
        return self.close_code

    async def barrier(self):
        """Returns once everything the server had queued for this client before is here."""
        await self.call("ping")

    async def close(self):
        await self.socket.close()
        await asyncio.wait({self._task}, timeout=scaled(5))

    def abort(self):
        """Drops the TCP connection without a close handshake."""
        self.socket.transport.abort()


class _Opened:
    def __init__(self, cls, port, options):
        self.cls, self.port, self.options = cls, port, options

    async def __aenter__(self):
        self.client = await self.cls.connect(self.port, **self.options)
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


async def connect_many(port: int, count: int, *topics, at_once: int = 25, **options) -> list[RawClient]:
    """`count` clients, each subscribed to `topics`."""
    gate = asyncio.Semaphore(at_once)

    async def one():
        async with gate:
            client = await RawClient.connect(port, **options)
            if topics:
                assert await client.subscribe(*topics) is True
            return client

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def expect_all(clients, count: int, timeout: float = 10):
    """Each client has `count` notifies in all, within `timeout` for all of them together."""
    deadline = time.monotonic() + scaled(timeout)
    for client in clients:
        await client.expect(count, max(deadline - time.monotonic(), 0.01) / scaled(1))


async def close_all(clients):
    await asyncio.gather(*(client.close() for client in clients), return_exceptions=True)
