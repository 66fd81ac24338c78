"""A real Apache Kafka (KRaft, one node) on loopback, and ways to read and write its topics without any server of ours."""

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

from .backbones import Proxy
from .coroutines import run_to_end
from .paths import KAFKA_LIBS, scaled
from .ports import free_port
from .process import Process, clean_environment, freeze, wait_until

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"


class KafkaBroker:
    """`bootstrap` is host:port, `uri` the form OPAL_BROADCAST_URI wants. Same port and data over kill and restart."""

    def __init__(self, work: Path, auto_create: bool = True, settings: dict | None = None, name: str = "kafka",
                 security: dict | None = None, scram: dict | None = None, proxies: int = 0):
        """`security`: further listeners, name of the protocol (SASL_PLAINTEXT, SASL_SSL, SSL) -> settings of that listener; their ports are
        in `ports`. `scram`: user -> password. `proxies`: so many Proxy objects in `proxies`, each before a plain listener of its own, which names
        the proxy as its address: who comes by `uri_by(proxy.port)` stays on that way."""
        self.work = work / f"{name}-{os.getpid()}"
        self.work.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.port, controller = free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.uri = f"kafka://{self.bootstrap}"
        self.ports = {protocol: free_port() for protocol in security or {}}
        self.proxies = [Proxy(free_port()) for _ in range(proxies)]
        ways = {f"WAY{i}": proxy for i, proxy in enumerate(self.proxies)}
        self.process: Process | None = None
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": ",".join(f"{p}://127.0.0.1:{port}" for p, port in [("PLAINTEXT", self.port), *self.ports.items(), ("CONTROLLER", controller),
                                                                                 *((name, proxy.target) for name, proxy in ways.items())]),
            "advertised.listeners": ",".join(f"{p}://127.0.0.1:{port}" for p, port in [("PLAINTEXT", self.port), *self.ports.items(),
                                                                                            *((name, proxy.port) for name, proxy in ways.items())]),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": ",".join(f"{p}:{p}" for p in ["PLAINTEXT", *self.ports]) + ",CONTROLLER:PLAINTEXT" +
                                              "".join(f",{name}:PLAINTEXT" for name in ways),
            "log.dirs": self.work / "data",
            "auto.create.topics.enable": str(auto_create).lower(),
            "num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            "num.network.threads": 2,
            "num.io.threads": 2,
            "background.threads": 2,
            "log.cleaner.enable": "false",
            # after kill -9 the node must not wait for its own old registration to run out
            "broker.session.timeout.ms": 3000,
            **{f"listener.name.{protocol.lower()}.{key}": value for protocol, own in (security or {}).items() for key, value in own.items()},
            **(settings or {}),
        }
        self.properties = self.work / "server.properties"
        self.properties.write_text("".join(f"{k}={v}\n" for k, v in properties.items()))
        (self.work / "log4j.properties").write_text(
            "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.out.layout=org.apache.log4j.PatternLayout\nlog4j.appender.out.layout.ConversionPattern=%d %p %c %m%n\n"
            "log4j.logger.kafka.server=INFO\n")
        formatted = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", self.properties,
                       *[x for user, password in (scram or {}).items() for x in ("-S", f"SCRAM-SHA-256=[name={user},password={password}]")]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment(), cwd=self.work)
        assert formatted.returncode == 0, formatted.stdout.decode()
        self.start()

    def uri_by(self, port: int) -> str:
        return f"kafka://127.0.0.1:{port}"

    def _java(self, *arguments) -> list:
        java = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if os.environ.get("JAVA_HOME") else "java"
        return [java, "-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
                f"-Dlog4j.configuration=file:{self.work}/log4j.properties", "-cp", f"{KAFKA_LIBS}/*", *map(str, arguments)]

    def start(self, wait: bool = True):
        """Starts it (again) on the same port and data."""
        assert self.process is None or not self.process.is_running()
        self.process = Process(self.name, self._java("kafka.Kafka", self.properties), self.work)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = 60):
        """Ready when it answers a metadata request, not just when the port is open."""
        def answers():
            try:
                socket.create_connection(("127.0.0.1", self.port), 0.5).close()
            except OSError:
                return False
            listed = subprocess.run(["kcat", "-b", self.bootstrap, "-L", "-m", "2"], stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment())
            return listed.returncode == 0 and b"broker 1 at" in listed.stdout
        self.process.wait_until(answers, seconds, "metadata", interval=0.1)

    def kill(self):
        """kill -9."""
        self.process.kill()

    def pause(self):
        freeze(self.process.pid)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self):
        if self.process and self.process.is_running():
            self.process.kill_group(signal.SIGCONT)
            self.process.kill()
        for proxy in self.proxies:
            proxy.close()

    # ---- topics, from outside
    def create_topic(self, topic: str, partitions: int = 1, config: dict | None = None):
        run_to_end(self._create(topic, partitions, config))

    async def _create(self, topic, partitions, config):
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config or {})])
        finally:
            await admin.close()

    def allow(self, topic: str, user: str, *operations: str):
        """The user may do this with the topic, and nothing else with it (the broker has an authorizer, and we are its super user)."""
        done = subprocess.run(
            self._java("kafka.admin.AclCommand", "--bootstrap-server", self.bootstrap, "--add", "--topic", topic, "--allow-principal", f"User:{user}",
                       *[x for operation in operations for x in ("--operation", operation)]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment(), cwd=self.work)
        assert done.returncode == 0, done.stdout.decode()

    def add_partitions(self, topic: str, total: int):
        async def add():
            from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                await admin.create_partitions({topic: NewPartitions(total_count=total)})
            finally:
                await admin.close()
        run_to_end(add())

    def produce(self, topic: str, *values, **how):
        """Writes each value (bytes, str, or None for a tombstone) and waits for the acknowledgement."""
        run_to_end(self.produce_async(topic, *values, **how))

    async def produce_async(self, topic: str, *values, partition: int | None = None, key: bytes | None = None, headers=None, timestamp_ms=None):
        from aiokafka import AIOKafkaProducer
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=64 << 20)
        await producer.start()
        try:
            for value in values:
                if isinstance(value, str):
                    value = value.encode()
                if value is None and key is None:  # aiokafka refuses to write these; kcat's -Z makes one of an empty line
                    to = [] if partition is None else ["-p", str(partition)]
                    await asyncio.to_thread(kcat, self, "-P", "-Z", "-K:", "-t", topic, *to, stdin=b":\n")
                    continue
                await producer.send_and_wait(topic, value, key=key, partition=partition, headers=headers, timestamp_ms=timestamp_ms)
        finally:
            await producer.stop()

    def read(self, topic: str, count: int = 0, seconds: float = 10) -> list:
        """All records of the topic in offset order per partition (objects with .value, .key, .headers, .partition, .offset), at
        least `count` of them."""
        return run_to_end(self.read_async(topic, count, seconds))

    async def read_async(self, topic: str, count: int = 0, seconds: float = 10) -> list:
        from aiokafka import AIOKafkaConsumer, TopicPartition
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50,
                                    max_partition_fetch_bytes=64 << 20)
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or await self._partitions(consumer, topic))]
            consumer.assign(partitions)
            await consumer.seek_to_beginning()
            records: list = []
            deadline = asyncio.get_running_loop().time() + scaled(seconds)
            while True:
                ends = await consumer.end_offsets(partitions)
                while any([await consumer.position(p) < ends[p] for p in partitions]):
                    for batch in (await consumer.getmany(timeout_ms=200)).values():
                        records += batch
                if len(records) >= count:
                    return records
                if asyncio.get_running_loop().time() > deadline:
                    raise AssertionError(f"{len(records)} of {count} records in {topic}: {[r.value for r in records][:20]}")
                await asyncio.sleep(0.05)
        finally:
            await consumer.stop()

    async def _partitions(self, consumer, topic):
        for _ in range(100):
            await consumer._client.force_metadata_update()
            if consumer.partitions_for_topic(topic):
                return consumer.partitions_for_topic(topic)
            consumer._client.add_topic(topic)
            await asyncio.sleep(0.05)
        raise AssertionError(f"topic {topic} does not exist")


def kcat(broker: KafkaBroker, *arguments, stdin: bytes | None = None, seconds: float = 15) -> bytes:
    """Runs kcat against the broker, e.g. kcat(broker, "-P", "-t", topic, stdin=b"...\\n"); returns its output."""
    done = subprocess.run(["kcat", "-b", broker.bootstrap, *arguments], input=stdin if stdin is not None else b"", stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=scaled(seconds), env=clean_environment())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


__all__ = ["KafkaBroker", "kcat", "wait_until"]
