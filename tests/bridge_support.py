"""NATS servers for the tests of the bridge, and a bridge with both of its ends."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

import npipes.aio
from aio_support import selector_loop
from support import TIMEOUT, WINDOWS

PROGRAM = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


def has_nats():
    """Whether nats_url() can give one."""
    return PROGRAM is not None or bool(os.environ.get("NPIPES_TEST_NATS"))


def needs_nats():
    """Skips a module of tests without what it takes."""
    pytest.importorskip("nats", reason="nats-py is not installed")
    if not has_nats():
        pytest.skip("nats-server is not installed", allow_module_level=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class NatsServer:
    """A nats-server of one's own, that can be killed and started again on the same port."""

    def __init__(self, *options, host="127.0.0.1", config=None, prefix=()):
        self.host, self.port = host, free_port()
        self.directory = tempfile.mkdtemp(prefix="nats-")
        self._options = [*options]
        self._prefix = [*prefix]
        if config is not None:
            path = os.path.join(self.directory, "server.conf")
            with open(path, "w") as file:
                file.write(config)
            self._options += ["-c", path]
        self._process = None

    @property
    def url(self):
        return f"nats://{self.host}:{self.port}"

    def start(self):
        command = [*self._prefix, PROGRAM, "-a", self.host, "-p", str(self.port), *self._options]
        log = open(os.path.join(self.directory, "log"), "ab")  # noqa: SIM115
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + TIMEOUT
        while not self._is_up():
            assert time.monotonic() < end and self._process.poll() is None, self.log()
            time.sleep(0.01)
        return self

    def _is_up(self):
        if self._prefix:  # not in this network: its log tells
            return b"Server is ready" in self.log().encode()
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False

    def log(self):
        with open(os.path.join(self.directory, "log")) as file:
            return file.read()

    def kill(self):
        self._process.kill()
        self._process.wait()

    def terminate(self):
        self._process.terminate()
        self._process.wait()

    def configure(self, config):
        """Another configuration, while it runs."""
        with open(os.path.join(self.directory, "server.conf"), "w") as file:
            file.write(config)
        self._process.send_signal(signal.SIGHUP)

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self.terminate()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()


@contextlib.contextmanager
def nats_url():
    """Of a server for a module's tests.  Where none can be started, one that was named."""
    named = os.environ.get("NPIPES_TEST_NATS")
    if named:
        yield named
        return
    with NatsServer() as server:
        yield server.url


def run(work, timeout=3 * TIMEOUT):
    """The result of a coroutine function; what a loop is told of is a failure."""
    told = []

    async def bounded():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        async with asyncio.timeout(timeout):
            return await work()

    with asyncio.Runner(loop_factory=_loop) as runner:
        result = runner.run(bounded())
    assert not told, told
    return result


def _loop():
    # nats-py works on either loop of Windows's; Wine's sockets are best with select().
    return selector_loop() if WINDOWS else asyncio.new_event_loop()


@contextlib.asynccontextmanager
async def bridged(url, name, handler, *, server=None, serving=None, connecting=None, **both):
    """A server, and both ends of a bridge to it; clients connect to NAME-far."""
    both = {"nats": url, "heartbeat": 1.0, **both}
    async with (
        npipes.aio.serve(handler, name, **(server or {})),
        npipes.bridge.serve(name, **both, **(serving or {})) as near,
        npipes.bridge.connect(name, pipe=f"{name}-far", **both, **(connecting or {})) as far,
    ):
        yield near, far


def numbered(number, size):
    """Bytes that tell which message they are, and whether they are whole."""
    head = b"%d:" % number
    return (head * (size // len(head) + 1))[:size] if size else b""
