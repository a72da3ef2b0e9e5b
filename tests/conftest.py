"""Fixtures of all tests."""

import contextlib
import itertools
import os
import shutil
import signal
import tempfile

import pytest
from aio_support import Loops, kinds
from bridge_support import nats_url
from support import (
    TIMEOUT,
    WINDOWS,
    Client,
    eventually,
    is_wine,
    reply,
    running,
    thread_count,
)

import npipes

_numbers = itertools.count(1)


def pytest_configure(config):
    # A session that a shell runs in the background has Ctrl-C ignored, and so
    # would everything that is tested with it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A handler or a thread that fails unnoticed is a failure of the test.
    for warning in ("PytestUnraisableExceptionWarning", "PytestUnhandledThreadExceptionWarning"):
        config.addinivalue_line("filterwarnings", f"error::pytest.{warning}")


@pytest.fixture(scope="session", autouse=True)
def runtime_directory():
    """Linux: a private and short directory for this session's sockets."""
    if WINDOWS:
        yield None
        return
    path = tempfile.mkdtemp(prefix="np-", dir="/tmp")
    old = os.environ.get("NPIPES_DIR")
    os.environ["NPIPES_DIR"] = path
    yield path
    if old is None:
        del os.environ["NPIPES_DIR"]
    else:
        os.environ["NPIPES_DIR"] = old
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_thread_is_left(request):
    before = thread_count()
    yield
    assert eventually(lambda: thread_count() <= before, 5), "the test left threads behind"


@pytest.fixture
def new_name():
    """Makes leaf names that nobody else has."""
    return lambda: f"npipes-test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def pipe_name(new_name):
    return new_name()


@pytest.fixture(params=[True, False], ids=["workers", "run"])
def free(request):
    """Where events run: free_threading_events."""
    return request.param


@pytest.fixture
def serve(pipe_name):
    """Starts servers that end with the test, each with a thread inside run() where it needs one."""
    with contextlib.ExitStack() as stack:

        def start(name=pipe_name, **options):
            options.setdefault("free_threading_events", True)
            return stack.enter_context(running(npipes.Server(name, **options)))

        yield start


@pytest.fixture
def manage():
    """Starts managers of clients that end with the test, like serve."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            options.setdefault("free_threading_events", True)
            return stack.enter_context(running(npipes.ClientManager(**options)))

        yield start


@pytest.fixture
def server(pipe_name):
    """A started echo server whose events wait for run() or dispatch()."""
    with npipes.Server(pipe_name, on_message=reply) as server:
        yield server


@pytest.fixture
def listener(pipe_name):
    with npipes.Listener(pipe_name) as listener:
        yield listener


@pytest.fixture(params=["pair", "connected"])
def ends(request):
    """Both ends of a connection."""
    if request.param == "pair":
        a, b = npipes.Pipe()
    else:
        listener = request.getfixturevalue("listener")
        a = npipes.connect(listener.address)
        b = listener.accept(timeout=TIMEOUT)
    with a, b:
        yield a, b


@pytest.fixture
def connect(serve):
    """Connects clients that are closed when the test ends, before its servers stop."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(Client(server))


@pytest.fixture(params=list(kinds()))
def loops(request):
    """Runs coroutines on each kind of event loop."""
    if request.param == "debug" and is_wine() and request.module.__name__ != "test_aio_messages":
        pytest.skip("under Wine a loop that notes every call takes minutes")
    loops = Loops(request.param)
    yield loops
    loops.check()


@pytest.fixture(scope="module")
def url():
    """Of a NATS server for a module's tests."""
    with nats_url() as url:
        yield url
