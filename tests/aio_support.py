"""Event loops for the asyncio tests, and what is checked after each of them."""

import asyncio
import contextlib
import gc
import selectors
import warnings

import npipes.aio
from support import TIMEOUT, WINDOWS, is_wine


class ThreadedLoop(asyncio.SelectorEventLoop):
    """A loop that can't watch descriptors: the engine's own thread wakes it."""

    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


class ImpatientSelector(selectors.SelectSelector):
    """Looks at least so often, in seconds, whatever it is to wait for."""

    LONGEST = 0.1

    def select(self, timeout=None):
        return super().select(self.LONGEST if timeout is None else min(timeout, self.LONGEST))


def selector_loop():
    """asyncio's selector loop.  Wine's select() sometimes sleeps on when another thread writes to the loop's socket,
    also where nothing but the standard library runs: tests/windows/README.md."""
    return asyncio.SelectorEventLoop(ImpatientSelector() if is_wine() else None)


def eager_loop():
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def debug_loop():
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def uvloop_loop():
    import uvloop

    return uvloop.new_event_loop()


def kinds():
    """The kinds of loop that there are here, by name."""
    found = {"selector": selector_loop, "debug": debug_loop}
    if WINDOWS:
        found["proactor"] = asyncio.ProactorEventLoop
    else:
        found["threaded"] = ThreadedLoop
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: F401

            found["uvloop"] = uvloop_loop
    if hasattr(asyncio, "eager_task_factory"):
        found["eager"] = eager_loop
    return found


class Loops:
    """Runs coroutines on new loops of one kind; errors that a loop was told of are kept."""

    def __init__(self, kind):
        self.kind = kind
        self.errors = []
        self._factory = kinds()[kind]

    def new(self):
        loop = self._factory()
        loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        return loop

    def run(self, work, timeout=3 * TIMEOUT):
        """The result of a coroutine function or coroutine, like that of asyncio.run()."""

        async def bounded():
            async with asyncio.timeout(timeout):
                return await (work() if callable(work) else work)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with asyncio.Runner(loop_factory=self.new) as runner:
                return runner.run(bounded())

    def scaled(self, count):
        """So many, or fewer where everything takes long: Wine, and a loop that notes every call."""
        return count // (10 if self.kind == "debug" else 1) // (5 if is_wine() else 1)

    def taken_errors(self):
        """The exceptions that loops were told of so far."""
        errors = [context.get("exception") or context["message"] for context in self.errors]
        self.errors.clear()
        return errors

    def check(self):
        gc.collect()
        assert not self.errors, f"a loop was told of {self.errors}"


async def echo(conn):
    async for message in conn:
        await conn.send(message)


async def until(condition, timeout=TIMEOUT):
    """Waits for what no event tells."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


async def in_thread(function, *args):
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


@contextlib.asynccontextmanager
async def echo_pair(name, **options):
    """A server that echoes, and a connection to it."""
    async with npipes.aio.serve(echo, name, **options) as server:
        async with npipes.aio.connect(name) as conn:
            yield server, conn
