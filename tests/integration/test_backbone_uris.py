"""OPAL_BROADCAST_URI as people write it: no secret is shown whatever is wrong with it, and what is wrong is said so that it can be mended."""

import random
import subprocess

import pytest

from harness import free_port
from harness.paths import OPALD, scaled
from harness.process import clean_environment

PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
FORMS = ["redis://:%s@h:1", "redis://u:%s@h:1/0", "rediss://u:%s@h:1", "redis://h:1?password=%s", "postgres://u:%s@h:1/d",
         "postgresql://h:1/d?user=u&password=%s&sslmode=disable", "kafka://u:%s@h:1", "kafka://h:1?%s", "host=h password=%s", "nats://u:%s@h:1",
         "u:%s@h", "postgresql+asyncpg://u:%s@h/d"]


def passwords(seed, count):
    """Random ones with all punctuation; no piece of four characters is one of a message's own."""
    chance = random.Random(seed)
    return ["".join(chance.choice(PUNCTUATION + "QXZ0987") for _ in range(chance.randrange(6, 20))) for _ in range(count)]


def run(command, uri, seconds=10):
    """Everything that it prints; a server that runs is ended after `seconds`."""
    process = subprocess.Popen([OPALD, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=clean_environment({"OPAL_BROADCAST_URI": uri, "OPAL_POLICY_REPO_URL": ""}))
    try:
        return process.communicate(timeout=scaled(seconds))[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.communicate(timeout=scaled(20))[0].decode(errors="replace")


def expect_hidden(password, uri, said):
    for i in range(len(password) - 3):
        piece = password[i:i + 4]
        if "***" not in piece and "://" not in piece:
            assert piece not in said, f"{piece!r} of {password!r} in {uri!r} is shown:\n{said}"


@pytest.mark.limit(120)
@pytest.mark.parametrize("form", FORMS)
def test_no_secret_is_shown(form):
    for number, password in enumerate(passwords(form, 12)):
        uri = form % password
        expect_hidden(password, uri, run(["check-config"], uri))
        printed = run(["print-config"], uri)
        assert '"BROADCAST_URI": ' in printed
        expect_hidden(password, uri, printed)
        if number < 3:  # with a log, where it can start
            expect_hidden(password, uri, run(["run", "--host", "127.0.0.1", "--port", str(free_port()), "--workers", "1"], uri, seconds=1.5))


ADVICE = "write / as %2F, @ as %40, : as %3A, # as %23, ? as %3F and % as %25"
HINTS = {
    "redis://:aSECRETb/cd@h:6379": ["the Redis URI has an @ behind its host", ADVICE],
    "redis://:aSECRETb": ["the Redis URI's port must be 1 to 65535", ADVICE],
    "redis://u:pw@h:6379/x": ["the Redis URI's database must be a number"],
    "postgres://u:aSECRETb?cd@h/d": ["the Postgres URI has an @ behind its host", ADVICE],
    "postgres://u:pw@h:SECRET/d": ["the Postgres URI's port must be 1 to 65535", ADVICE],
    "kafka://b1:9092,b2:SECRET": ["broker 2 has no valid port", "KAFKA_SECURITY_PROTOCOL"],
    "kafka://u:SECRET/x@b1": ["Kafka takes no user and password in the URI"],
    "SASL_SSL://b1:9092": ["Kafka is kafka://host1:9092,host2:9092", "KAFKA_SECURITY_PROTOCOL"],
    "kafka+ssl://b1:9092": ["Kafka is kafka://host1:9092,host2:9092", "KAFKA_SECURITY_PROTOCOL"],
    "postgresql+asyncpg://u:SECRET@h/d": ["Postgres is postgresql://host:5432/database, with user:password@"],
    "host=db password=SECRET": ["Postgres is postgresql://host:5432/database, with user:password@"],
}


@pytest.mark.parametrize("uri", HINTS)
def test_what_is_wrong_and_how_to_write_it(uri):
    said = run(["check-config"], uri)
    for piece in HINTS[uri]:
        assert piece in said
    assert "SECRET" not in said and "aSE" not in said


@pytest.mark.parametrize("uri", ["kafka://b1:9092, b2:9092", "redis://h:6379/1", "redis://u:p@ss@h", "postgres://me@server:p@ss#w@h:1, i:2/d",
                                 "postgresql://h/d?user=me@server&password=x"])
def test_what_the_reference_takes(uri):
    assert "the configuration is good" in run(["check-config"], uri)
