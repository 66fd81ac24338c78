"""Apache Kafka as production runs it: three nodes that are broker and controller, two that are controllers only, on loopback."""

import base64
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

from .kafka import CLUSTER_ID
from .paths import KAFKA_LIBS, ROOT, scaled
from .ports import free_port
from .process import Process, clean_environment, freeze, process_state

BROKERS = (1, 2, 3)
CONTROLLERS = (1, 2, 3, 4, 5)
ADMIN = ROOT / "tests" / "integration" / "kafka" / "ClusterAdmin.java"
LOG4J = """log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c %m%n
"""
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def java(memory: int, *arguments) -> list:
    program = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if os.environ.get("JAVA_HOME") else "java"
    return [program, f"-Xmx{memory}m", "-Xms32m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", *map(str, arguments)]


class Node:
    """One node; its ports and its data outlive kill and restart."""

    def __init__(self, cluster, number: int):
        self.cluster, self.number = cluster, number
        self.controller_port = free_port()
        self.ports = {name: free_port() for name in cluster.listeners} if number in BROKERS else {}
        self.folder = cluster.work / f"node{number}"
        self.named_address = "127.0.0.1"
        self.process: Process | None = None

    def format(self):
        """What `kafka-storage format` writes."""
        data = self.folder / "data"
        data.mkdir(parents=True)
        directory = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        (data / "meta.properties").write_text(f"version=1\ncluster.id={CLUSTER_ID}\nnode.id={self.number}\ndirectory.id={directory}\n")
        (self.folder / "log4j.properties").write_text(LOG4J)

    def properties(self) -> dict:
        cluster = self.cluster
        listeners = [("CONTROLLER", "127.0.0.1", self.controller_port),
                     *((name, self.named_address if name == "NAMED" else "127.0.0.1", port) for name, port in self.ports.items())]
        advertised = [(name, self.name if name == "NAMED" else "127.0.0.1", port) for name, port in self.ports.items()]
        settings = {
            "process.roles": "broker,controller" if self.number in BROKERS else "controller",
            "node.id": self.number,
            "controller.quorum.voters": ",".join(f"{n.number}@127.0.0.1:{n.controller_port}" for n in cluster.nodes.values()),
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(f"{name}://{host}:{port}" for name, host, port in listeners),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT," + ",".join(f"{n}:{p}" for n, p in cluster.listeners.items()),
            "log.dirs": self.folder / "data",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "true",
        }
        if self.number in BROKERS:
            settings |= {
                "advertised.listeners": ",".join(f"{name}://{host}:{port}" for name, host, port in advertised),
                "inter.broker.listener.name": "PLAINTEXT",
                "auto.create.topics.enable": "false",
                "default.replication.factor": 3,
                "min.insync.replicas": 2,
                "offsets.topic.num.partitions": 1,
                "transaction.state.log.num.partitions": 1,
                "num.network.threads": 2,
                "num.io.threads": 2,
                "num.replica.fetchers": 1,
                "background.threads": 2,
                "log.cleaner.backoff.ms": 500,
                "log.retention.check.interval.ms": 500,
                "log.initial.task.delay.ms": 500,
                "quota.window.size.seconds": 1,
                "unclean.leader.election.interval.ms": 1000,
                **cluster.secured,
                **cluster.settings,
            }
        return settings

    @property
    def name(self) -> str:
        return f"broker{self.number}.kafka.test"

    def start(self):
        """Does not wait until it serves."""
        assert self.process is None or not self.process.is_running()
        (self.folder / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in self.properties().items()))
        self.process = Process(f"kafka{self.number}", java(256, f"-Dlog4j.configuration=file:{self.folder}/log4j.properties", "-cp", f"{KAFKA_LIBS}/*",
                                                           "kafka.Kafka", self.folder / "server.properties"), self.folder)
        return self

    def is_running(self) -> bool:
        return self.process is not None and self.process.is_running()

    def kill(self):
        """kill -9."""
        self.process.kill_group(signal.SIGCONT)
        self.process.kill()

    def shut_down(self):
        """SIGTERM: leaders move away first."""
        self.process.stop(60)

    def freeze(self):
        freeze(self.process.pid)

    def wake(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def is_frozen(self) -> bool:
        return self.is_running() and process_state(self.process.pid) == "T"


class KafkaCluster:
    """`uri` names all brokers, as OPAL_BROADCAST_URI wants it. `nodes[1..3]` are brokers; heal() brings everything back."""

    def __init__(self, work: Path, settings: dict | None = None, authority=None):
        """`settings`: of every broker. `authority`: an Authority, for a listener SASL_SSL with the user alice (PLAIN)."""
        self.work, self.authority = work, authority
        self.settings = settings or {}
        self.listeners = {"PLAINTEXT": "PLAINTEXT", "NAMED": "PLAINTEXT"}
        self.secured = {}
        if authority:
            self.listeners["SASL_SSL"] = "SASL_SSL"
            certificate, key = authority.issue("127.0.0.1", *(f"broker{n}.kafka.test" for n in BROKERS))
            store = work / "broker.pem"
            store.write_bytes(Path(key).read_bytes() + Path(certificate).read_bytes())
            prefix = "listener.name.sasl_ssl."
            self.secured = {
                f"{prefix}sasl.enabled.mechanisms": "PLAIN",
                f"{prefix}plain.sasl.jaas.config": f'{PLAIN} user_alice="open-sesame";',
                f"{prefix}ssl.keystore.type": "PEM", f"{prefix}ssl.keystore.location": store,
            }
        self.nodes: dict[int, Node] = {}
        for number in CONTROLLERS:
            self.nodes[number] = Node(self, number)
        for node in self.nodes.values():
            node.format()
        self.administrator: subprocess.Popen | None = None
        for node in self.nodes.values():
            node.start()

    # ---- addresses
    def bootstrap(self, listener: str = "PLAINTEXT") -> str:
        return ",".join(f"{node.name if listener == 'NAMED' else '127.0.0.1'}:{node.ports[listener]}" for n, node in self.nodes.items() if n in BROKERS)

    @property
    def uri(self) -> str:
        return f"kafka://{self.bootstrap()}"

    # ---- life cycle
    def start_administrator(self):
        self.administrator = subprocess.Popen(java(128, "-cp", f"{KAFKA_LIBS}/*", ADMIN, self.bootstrap()), stdin=subprocess.PIPE,
                                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=clean_environment(), text=True, bufsize=1)
        assert self.administrator.stdout.readline() == "ok\n"

    def wait_ready(self, seconds: float = 90):
        if self.administrator is None:
            self.start_administrator()
        self.wait_until(lambda: self.command("controller", may_fail=True).startswith("ok"), seconds, "controller")
        running = sum(self.nodes[number].is_running() for number in BROKERS)
        self.wait_until(lambda: self.command("brokers", may_fail=True) == f"ok {running}", seconds, f"{running} brokers")
        return self

    def heal(self):
        """Everything runs, as it was configured at first."""
        for number, node in self.nodes.items():
            if node.is_frozen():
                node.wake()
            if not node.is_running():
                node.start()
        return self.wait_ready()

    def stop(self):
        if self.administrator:
            self.administrator.kill()
            self.administrator.wait()
        for node in self.nodes.values():
            if node.process:
                node.kill()

    def wait_until(self, condition, seconds: float, what: str):
        deadline = time.monotonic() + scaled(seconds)
        while not condition():
            assert time.monotonic() < deadline, f"Kafka cluster: no {what}"
            time.sleep(0.1)

    # ---- administration
    def command(self, line: str, may_fail: bool = False) -> str:
        """One line for ClusterAdmin.java; what is behind "ok "."""
        if self.administrator is None:
            self.start_administrator()
        self.administrator.stdin.write(line + "\n")
        self.administrator.stdin.flush()
        answer = self.administrator.stdout.readline().strip("\n")
        assert may_fail or answer.startswith("ok "), f"{line}: {answer}"
        return answer if may_fail else answer[3:]

    def create_topic(self, topic: str, replicas: str = "1,2,3", **settings):
        """Partition by partition, "1,2,3;2,3,1": the first is the leader. A setting's dots are written as underscores."""
        extra = "".join(f" {key.replace('_', '.')}={value}" for key, value in settings.items())

        def created():
            answer = self.command(f"create {topic} {replicas}{extra}", may_fail=True)
            return answer.startswith("ok") or "TopicExistsException" in answer
        self.wait_until(created, 60, "new topic")
        leader = int(replicas.split(",")[0])
        self.wait_until(lambda: self.partition(topic).leader == leader and len(self.partition(topic).in_sync) == len(replicas.split(";")[0].split(",")), 60,
                        "topic with all replicas")

    def configure(self, topic: str, **settings):
        """None: back to the default."""
        self.command(f"config topic {topic} " + " ".join(f"{k.replace('_', '.')}={'' if v is None else v}" for k, v in settings.items()))

    def partition(self, topic: str, number: int = 0) -> "Partition":
        answer = self.command(f"describe {topic}", may_fail=True)
        if not answer.startswith("ok "):
            return Partition(-1, [], [])
        leader, in_sync, replicas = answer.split(" ")[2 + number].split(":")
        return Partition(int(leader), [int(x) for x in in_sync.split(",") if x], [int(x) for x in replicas.split(",")])

    def leader(self, topic: str) -> int:
        return self.partition(topic).leader

    def wait_in_sync(self, topic: str, count: int = 3, seconds: float = 90):
        self.wait_until(lambda: len(self.partition(topic).in_sync) >= count, seconds, f"{count} replicas in sync")

    def wait_leader(self, topic: str, leader: int | None = None, other_than: int | None = None, seconds: float = 60):
        def found():
            now = self.leader(topic)
            return now >= 0 and (leader is None or now == leader) and now != other_than
        self.wait_until(found, seconds, f"leader {leader if leader is not None else ''}")
        return self.leader(topic)


class Partition:
    def __init__(self, leader: int, in_sync: list[int], replicas: list[int]):
        self.leader, self.in_sync, self.replicas = leader, in_sync, replicas
