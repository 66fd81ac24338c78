"""Seeds of random tests."""

import os
import random


def seed(usual: int | None = None) -> int:
    """OPALD_TEST_SEED (a number, or "random"), else the usual one; without a usual one, a random one. It is printed: pytest shows it
    when the test fails."""
    wanted = os.environ.get("OPALD_TEST_SEED") or ("random" if usual is None else str(usual))
    chosen = random.randrange(1 << 32) if wanted == "random" else int(wanted)
    print(f"OPALD_TEST_SEED={chosen}")
    return chosen
