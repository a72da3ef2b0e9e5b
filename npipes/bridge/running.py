"""An endpoint as a program: until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import ctypes
import signal
import sys

from .endpoint import Endpoint

__all__ = ["run"]

# Of mallopt() of the GNU C library.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_KEPT = 32 << 20  # bytes


def run(endpoint: Endpoint, title: str) -> int:
    """Runs an endpoint until it is told to end, and says what it did.  Its exit code."""
    _keep_memory()
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(_run(endpoint, title))
    except KeyboardInterrupt:
        return 0


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed: a message that comes alone costs less there."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _keep_memory() -> None:
    """Lets the process keep what it frees, up to some bytes, where its C library can be told so.

    Each large message is allocated a few times on its way, and is gone soon.  Giving its memory back
    to the system and getting it again, page by page, takes longer than all the copying.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_TRIM_THRESHOLD, _KEPT)
            library.mallopt(_MMAP_THRESHOLD, _KEPT)


async def _run(endpoint: Endpoint, title: str) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: KeyboardInterrupt
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
        outcome, _ = await asyncio.gather(serving, ending, return_exceptions=True)
        print(endpoint.summary, flush=True)
    if isinstance(outcome, OSError):
        print(f"npipes bridge: {outcome.strerror or outcome}", file=sys.stderr)
        return 1
    return 0
