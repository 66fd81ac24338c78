"""A program: real PubSubClients of several servers, a publisher per server, and a look at /readyz, for kafka_fleet.py.

    fleet_member.py '{"topic": "t", "servers": {"a": 7001, "b": 7002}, "ready": ["a"], "clients": 2, "rate": 25}'
Commands on standard input, one JSON line as the answer to each:
    start | stop   of the publishing
    status         [[connected, {source: last number}], ...]
    report         {"published": {"a": [[number, began, ended, status], ...]}, "clients": [{"server": "a", "log": [[time, what, number], ...]}],
                   "ready": {"a": [[time, status, body], ...]}}   what: "+" connected, "-" disconnected, else the source of an event
    end
Times are time.monotonic()'s. An event is a data update whose reason is "SOURCE NUMBER"."""

import asyncio
import json
import logging
import sys
import time

import aiohttp
from fastapi_websocket_pubsub import PubSubClient
from tenacity import wait

logging.disable(logging.CRITICAL)


class Client:
    def __init__(self, server: str, port: int, topic: str):
        self.server, self.log, self.last, self.connected = server, [], {}, False
        self.client = PubSubClient([topic], self.take, retry_config={"wait": wait.wait_random(0.1, 0.5)}, on_connect=[self.on_connect],
                                   on_disconnect=[self.on_disconnect], open_timeout=5)
        self.client.start_client(f"ws://127.0.0.1:{port}/ws")

    async def take(self, data, topic):
        source, number = data["reason"].split(" ")
        self.log.append([time.monotonic(), source, int(number)])
        self.last[source] = int(number)

    async def on_connect(self, client, channel):
        self.log.append([time.monotonic(), "+", 0])
        self.connected = True

    async def on_disconnect(self, channel):
        self.log.append([time.monotonic(), "-", 0])
        self.connected = False


class Publisher:
    def __init__(self, source: str, port: int, topic: str, rate: float):
        self.source, self.port, self.topic, self.rate = source, port, topic, rate
        self.published: list = []
        self.running = False
        self.task = None

    async def publish(self):
        async with aiohttp.ClientSession() as session:
            due = time.monotonic()
            while self.running:
                due = max(due + 1 / self.rate, time.monotonic() - 0.2)
                await asyncio.sleep(max(0, due - time.monotonic()))
                number, began = len(self.published), time.monotonic()
                entry = [number, began, 0.0, 0]
                self.published.append(entry)
                body = {"entries": [{"url": "http://127.0.0.1:1/x", "topics": [self.topic], "dst_path": "/x"}], "reason": f"{self.source} {number}"}
                try:
                    async with session.post(f"http://127.0.0.1:{self.port}/data/config", json=body, timeout=aiohttp.ClientTimeout(30)) as response:
                        entry[3] = response.status
                except (aiohttp.ClientError, asyncio.TimeoutError):
                    entry[3] = 0
                entry[2] = time.monotonic()


async def watch_ready(port: int, samples: list):
    async with aiohttp.ClientSession() as session:
        while True:
            began = time.monotonic()
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz", timeout=aiohttp.ClientTimeout(2)) as response:
                    samples.append([began, response.status, (await response.text())[:300]])
            except (aiohttp.ClientError, asyncio.TimeoutError):
                samples.append([began, 0, ""])
            await asyncio.sleep(0.25)


async def main():
    settings = json.loads(sys.argv[1])
    clients = [Client(name, port, settings["topic"]) for name, port in settings["servers"].items() for _ in range(settings["clients"])]
    publishers = [Publisher(name, port, settings["topic"], settings["rate"]) for name, port in settings["servers"].items()]
    ready = {name: [] for name in settings["ready"]}
    watchers = [asyncio.create_task(watch_ready(settings["servers"][name], samples)) for name, samples in ready.items()]
    while True:
        command = (await asyncio.to_thread(sys.stdin.readline)).strip()
        answer: object = True
        if command == "start":
            for publisher in publishers:
                publisher.running = True
                publisher.task = asyncio.create_task(publisher.publish())
        elif command == "stop":
            for publisher in publishers:
                publisher.running = False
            for publisher in publishers:
                await publisher.task
            answer = {publisher.source: len(publisher.published) - 1 for publisher in publishers}
        elif command == "status":
            answer = [[client.connected, client.last] for client in clients]
        elif command == "report":
            answer = {"published": {p.source: p.published for p in publishers}, "ready": ready,
                      "clients": [{"server": c.server, "log": c.log} for c in clients]}
        else:
            break
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for watcher in watchers:
        watcher.cancel()


if __name__ == "__main__":
    asyncio.run(main())
