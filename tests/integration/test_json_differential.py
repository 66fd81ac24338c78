"""shm/common/json.c against Python's own json on generated and mutated texts: same verdict, same message, same
offset, same value."""

import json
import os
import random
import subprocess

import pytest

from harness.dice import seed
from harness.paths import built_driver

COUNT = int(os.environ.get("OPALD_JSON_TEXTS", "20000"))

OK, SYNTAX, TOO_DEEP, TOO_MANY, TOO_LONG, BAD_UTF8 = range(6)
NULL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT = range(7)


class Raw(str):
    """A number's text."""


def load(text):
    return json.loads(
        text,
        object_pairs_hook=lambda pairs: ("object", pairs),
        parse_int=lambda t: Raw("i" + t),
        parse_float=lambda t: Raw("f" + t),
        parse_constant=lambda t: Raw("f" + t),
    )


class Driver:
    def __init__(self, depth=512):
        self.process = subprocess.Popen([built_driver("json_driver"), str(depth)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, data):
        self.process.stdin.write(len(data).to_bytes(4, "little") + data)
        self.process.stdin.flush()
        line = self.process.stdout.readline().decode()
        assert line.endswith("\n"), f"the driver ended on {data!r}"
        failure, check, offset, message, tokens = line[:-1].split("\t")
        rows = [t.split(" ") for t in tokens.split(";") if t]
        return int(failure), int(check), int(offset), message, rows

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(10) == 0


def rebuild(rows, data, index=0):
    """The value of the tokens from `index` on, checking what json.h promises about them."""
    kind, start, end, after, size = (int(v) for v in rows[index][:5])
    raw = data[start:end]
    if kind in (NULL, FALSE, TRUE):
        assert raw == [b"null", b"false", b"true"][kind] and after == index + 1
        return [None, False, True][kind]
    if kind == NUMBER:
        assert after == index + 1
        return Raw("fi"[size] + raw.decode())
    if kind == STRING:
        assert raw[:1] == raw[-1:] == b'"' and after == index + 1 and size == (b"\\" in raw)
        return bytes.fromhex(rows[index][5]).decode("utf-8", "surrogatepass")
    assert (raw[:1], raw[-1:]) == ((b"[", b"]") if kind == ARRAY else (b"{", b"}"))
    values, child = [], index + 1
    while child < after:
        values.append(rebuild(rows, data, child))
        child = int(rows[child][3])
    assert child == after
    if kind == ARRAY:
        assert size == len(values)
        return values
    assert size * 2 == len(values)
    return ("object", list(zip(values[::2], values[1::2])))


def compare(driver, data):
    failure, check, offset, message, rows = driver.ask(data)
    assert failure == check, data
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        assert failure == BAD_UTF8, data
        assert offset == len(data[: error.start].decode()), data
        return "utf8"
    try:
        value = load(text)
    except json.JSONDecodeError as error:
        assert (failure, message, offset) == (SYNTAX, error.msg, error.pos), (data, error.msg, error.pos)
        return "syntax"
    except RecursionError:
        assert failure in (TOO_DEEP, SYNTAX), data
        return "deep"
    if failure == TOO_DEEP:
        return "deep"
    assert failure == OK, (data, message, offset)
    assert rebuild(rows, data) == value, data
    return "ok"


ALPHABET = (
    list('{}[]:,"\\/ \n\t\r\b\f\x00\x1f\x7f.+-eE0123456789abfnrtulsINy')
    + ["true", "false", "null", "NaN", "Infinity", "-Infinity", "\\u", "\\ud83d", "\\ude00", "\\ud800", "\\u00e9"]
    + ["é", "ß", "中", "😀", "\u2028", "\ufeff", "\x80", "\xa0", '""', "{}", "[]", '"a":', "1e5", "-0", "0.5"]
)


def random_string(rng):
    return "".join(
        rng.choice(["a", "bc", "/", '"', "\\", "\n", "é", "中", "😀", "\ud800", "\udc00", "x" * rng.randrange(20), "\x7f"])
        for _ in range(rng.randrange(6))
    )


def random_value(rng, depth):
    kind = rng.randrange(10 if depth else 6)
    if kind == 0:
        return rng.choice([None, True, False, float("nan"), float("inf"), float("-inf")])
    if kind == 1:
        return rng.choice([0, -0.0, 1, -1, 9007199254740993, 10**30, 1.5e300, -2.5e-7, rng.random()])
    if kind < 6:
        return random_string(rng)
    if kind < 8:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {random_string(rng): random_value(rng, depth - 1) for _ in range(rng.randrange(5))}


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(6)
        if how == 0:
            del data[at : at + rng.randrange(1, 4)]
        elif how == 1:
            data[at:at] = rng.choice(ALPHABET).encode()
        elif how == 2:
            data[at : at + 1] = rng.choice(ALPHABET).encode()
        elif how == 3:
            del data[at:]
        elif how == 4:
            data[at : at + 1] = bytes([rng.randrange(256)])
        else:
            other = rng.randrange(len(data) + 1)
            data[at:at] = data[other : other + rng.randrange(8)]
    return bytes(data)


def test_random_texts():
    rng = random.Random(seed(1))
    driver = Driver()
    seen = {}
    for i in range(COUNT):
        if i % 4 == 0:
            data = "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(14))).encode()
        else:
            value = random_value(rng, rng.randrange(5))
            indent = rng.choice([None, None, 1])
            data = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=indent).encode("utf-8", "surrogatepass")
            if i % 4 > 1:
                data = mutate(rng, data)
        verdict = compare(driver, data)
        seen[verdict] = seen.get(verdict, 0) + 1
    driver.close()
    assert min(seen.get("ok", 0), seen.get("syntax", 0), seen.get("utf8", 0)) > COUNT // 100, seen


def test_every_prefix_and_every_byte_replaced():
    driver = Driver()
    text = ' {"a\\u00e9\\ud83d\\ude00é": [1, -2.5e+3, 0, true, false, null, NaN, -Infinity, Infinity, "😀\\n"], "b": {}, "c": []} '
    data = text.encode()
    for length in range(len(data) + 1):
        compare(driver, data[:length])
    for at in range(len(data)):
        for byte in [*range(0, 128, 3), 0x22, 0x2C, 0x3A, 0x5C, 0x5D, 0x7D, 0x80, 0xC3, 0xED, 0xF0, 0xFF]:
            compare(driver, data[:at] + bytes([byte]) + data[at + 1 :])
    driver.close()


@pytest.mark.parametrize("depth", [10, 100])
def test_depth(depth):
    driver = Driver(depth)
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        assert driver.ask(text.encode())[0] == OK
        deeper = "[" + text + "]"
        assert driver.ask(deeper.encode())[0] == TOO_DEEP
    driver.close()


def test_long_integers_are_refused_as_python_does():
    driver = Driver()
    for text in ("1" * 4300, "-" + "1" * 4300, "1" * 5000 + ".5", "1" * 5000 + "e1"):
        json.loads(text)
        assert driver.ask(text.encode())[0] == OK
    for text in ("1" * 4301, "-" + "1" * 4301, "[" + "1" * 4301 + "]"):
        with pytest.raises(ValueError):
            json.loads(text)
        assert driver.ask(text.encode())[0] == TOO_LONG
    driver.close()
