"""What GET /metrics of a server says."""

import re

SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$', re.M)


def samples(server) -> dict:
    """{(name, frozenset of (label, value)): number}"""
    reply = server.request("GET", "/metrics")
    assert reply.status == 200
    return {(name, frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels))): float(value) for name, labels, value in SAMPLE.findall(reply.text)}


def counter(server, name: str, **labels) -> int:
    """opald_<name>_total with exactly these labels."""
    return int(samples(server)[f"opald_{name}_total", frozenset(labels.items())])


def gauge(server, name: str, **labels) -> float:
    return samples(server)[f"opald_{name}", frozenset(labels.items())]
