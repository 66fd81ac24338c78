"""OPAL_ENABLE_METRICS: figures for a DogStatsD agent, by the reference's names, beside opald's own."""

import re
import socket
import time

import pytest

from harness import free_port, scaled

LINE = re.compile(r"^[a-z_.0-9]+:[0-9]+\|[cg](\|#[a-z_]+:[^,|]+(,[a-z_]+:[^,|]+)*)?$")
STATSD_PORT = 8125  # the reference's, which has no option for it


class Agent:
    """What a DogStatsD agent would get."""

    def __init__(self, host="127.0.0.1", port=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, port or 0))
        self.host, self.port = self.socket.getsockname()
        self.lines = []

    def until(self, condition, seconds=10):
        deadline = time.monotonic() + scaled(seconds)
        while not condition(self.lines):
            left = deadline - time.monotonic()
            assert left > 0, f"not within {seconds} s; got {self.lines}"
            self.socket.settimeout(left)
            try:
                packet = self.socket.recv(65536)
            except socket.timeout:
                continue
            assert len(packet) <= 1432
            self.lines += [line for line in packet.decode().split("\n") if line]


@pytest.fixture
def agent():
    made = Agent()
    yield made
    made.socket.close()


def environment(agent, **more):
    return {"OPAL_ENABLE_METRICS": "true", "DD_AGENT_HOST": agent.host, "OPAL_STATSD_PORT": str(agent.port), "OPAL_STATSD_INTERVAL": "0.2", **more}


@pytest.mark.sanitize
def test_figures_reach_the_agent(opald, agent, kafka, topic):
    server = opald(workers=2, broadcast_uri=kafka.uri, channel=topic, env=environment(agent))
    agent.until(lambda lines: "permit.opal.startup:1|c" in lines)
    agent.until(lambda lines: any(re.fullmatch(r"permit\.opal\.opal_server\.broadcaster_reader_healthy:1\|g\|#pid:\d+", x) for x in lines))
    for _ in range(3):
        assert server.publish("t").status == 200

    def published(lines):
        return sum(int(m[1]) for x in lines if (m := re.fullmatch(r"permit\.opal\.opald\.events:(\d+)\|c\|#direction:published", x)))

    agent.until(lambda lines: published(lines) >= 3)
    agent.until(lambda lines: "permit.opal.opald.workers_ready:2|g" in lines)
    assert published(agent.lines) == 3
    assert agent.lines.count("permit.opal.startup:1|c") == 1
    assert [x for x in agent.lines if not LINE.match(x)] == []


def test_no_agent_harms_nobody(opald):
    port = free_port()
    server = opald(env={"OPAL_ENABLE_METRICS": "true", "OPAL_STATSD_PORT": str(port), "OPAL_STATSD_INTERVAL": "0.1"})
    server.wait_for_log("Error submitting packet: Connection refused, dropping the packet", 10)
    assert server.publish("t").status == 200
    late = Agent(port=port)
    late.until(lambda lines: "permit.opal.opald.workers_ready:1|g" in lines)
    late.socket.close()
    nowhere = opald(env={"OPAL_ENABLE_METRICS": "true", "DD_AGENT_HOST": "no-such-host.invalid", "OPAL_STATSD_INTERVAL": "0.1"})
    nowhere.wait_for_log("no DogStatsD agent at no-such-host.invalid", 20)
    assert nowhere.publish("t").status == 200


def test_off_by_default(opald):
    server = opald()
    server.wait_for_log("DogStatsD metrics disabled")


def test_same_names_as_the_reference(opald, reference):
    """The reference can't be told another port than 8125: both get an address of their own."""
    one, two = Agent("127.0.0.78", STATSD_PORT), Agent("127.0.0.79", STATSD_PORT)
    reference(env={"OPAL_ENABLE_METRICS": "true", "DD_AGENT_HOST": one.host})
    opald(env={"OPAL_ENABLE_METRICS": "true", "DD_AGENT_HOST": two.host})

    def names(lines):
        return {line.split("|#")[0] for line in lines}

    one.until(lambda lines: "permit.opal.startup:1|c" in names(lines), 20)
    two.until(lambda lines: "permit.opal.startup:1|c" in names(lines))
    for agent in (one, two):
        agent.socket.close()
