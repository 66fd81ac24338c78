"""Coroutines from functions that are not async."""

import asyncio
from concurrent.futures import ThreadPoolExecutor


def run_to_end(coroutine):
    """The coroutine's result. Also where a loop runs already: the caller is blocked then, and the coroutine has a loop and a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
