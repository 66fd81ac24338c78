"""Bundles of the reference's own bundle maker and of opald's builder are the same bytes, over generated histories."""

import gzip
import hashlib
import random

import pytest

from harness.bundle_oracle import BundleDriver, BundleOracle, Rules
from harness.dice import seed
from harness.policy_history import History

IGNORES = [[], ["a/*.rego"], ["a/**"], ["**/q.rego"], ["*.json"], ["users/**", "ma?n.rego"], ["/"], ["[!a-m]*.rego"], ["a"], ["/a/b"], ["日*/**"], ["**"], ["*/data.json", "[[]*"]]
MANIFESTS = ["", "", "", ".", "a", "a/b", "users/été", ".manifest", "a/.manifest", "rbac.rego", "missing", "/a", "./a//b/"]
POLICIES = [[".rego"], [".rego"], [".rego", ".txt"], [".json"]]
EXTENSIONS = [[".rego", ".json"], [".rego", ".json"], [".rego"], [".rego", ".json", ".txt", ".md"], [".json"]]


@pytest.fixture(scope="module")
def oracle():
    return BundleOracle()


def some_paths(r: random.Random, history: History) -> list:
    names = sorted(history.files) or ["x"]
    directories = sorted({n[:i] for n in names for i, c in enumerate(n) if c == "/"})
    pool = directories * 3 + ["", "/", ".", "./", *names[:2], "missing", "a/../a", "//a", "/a", "a/", "..", "a/./b"]
    return [] if r.random() < 0.3 else r.sample(pool, min(len(pool), r.randrange(1, 4)))


def check(theirs: dict, ours: dict, what):
    assert ours["status"] == theirs["status"], (what, theirs, ours)
    assert ours["body"] == theirs["body"], what
    if ours["status"] == 200:
        assert hashlib.sha256(ours["body"]).hexdigest()[:32] == ours["tag"]
        assert not ours["gzip"] or gzip.decompress(ours["gzip"]) == ours["body"]


@pytest.mark.limit(120)
@pytest.mark.parametrize("usual", range(100, 110))
def test_generated_histories(work, oracle, usual):
    """Ten histories a case, each with rules of its own: every pair of commits in both directions, full bundles, with sets of paths."""
    compared = diffs = 0
    chosen = seed(usual)
    for number in range(10):
        r = random.Random(chosen * 1000 + number)
        history = History(work / f"h{number}", chosen * 1000 + number, commits=r.randrange(3, 8))
        rules = Rules(r.choice(MANIFESTS), r.choice(IGNORES) if r.random() < 0.5 else [], r.choice(EXTENSIONS), r.choice(POLICIES))
        driver = BundleDriver(work, rules)
        pairs = [(head, base) for head in history.commits for base in ["", *history.commits]]
        for head, base in r.sample(pairs, 8):
            paths = [p for p in some_paths(r, history) if "\t" not in p]
            theirs = oracle.ask(history.path, head, base, paths, rules)
            check(theirs, driver.ask(history.path, head, base, paths), (chosen, number, head, base, paths, vars(rules)))
            compared += 1
            diffs += bool(base) and theirs["status"] == 200
        driver.close()
    assert compared == 80 and diffs > 20
