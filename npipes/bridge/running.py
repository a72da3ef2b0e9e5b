"""An endpoint as a program: until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import signal
import sys

from .endpoint import Endpoint

__all__ = ["run"]


def run(endpoint: Endpoint, title: str) -> int:
    """Runs an endpoint until it is told to end, and says what it did.  Its exit code."""
    try:
        return asyncio.run(_run(endpoint, title))
    except KeyboardInterrupt:
        return 0


async def _run(endpoint: Endpoint, title: str) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):      # Windows: KeyboardInterrupt
            loop.add_signal_handler(number, stopped.set)
    try:
        await endpoint.start()
    except (OSError, ImportError, ValueError) as error:
        text = getattr(error, "strerror", None) or error
        print(f"npipes bridge: {text}", file=sys.stderr)
        return 1
    print(f"{title}: running until Ctrl-C", flush=True)
    serving = asyncio.ensure_future(endpoint.serve_forever())
    ending = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait((serving, ending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        ending.cancel()
        await endpoint.close()
        await asyncio.gather(serving, ending, return_exceptions=True)
        print(endpoint.summary, flush=True)
    return 0
