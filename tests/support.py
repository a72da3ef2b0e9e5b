"""What the tests share: clients, logs of events, servers that run, and waits that end."""

import contextlib
import ctypes
import gc
import multiprocessing.connection
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from pathlib import Path

import pytest

import npipes

WINDOWS = sys.platform == "win32"
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
TIMEOUT = 20.0  # a wait that takes this long has failed
FAMILY = "AF_PIPE" if WINDOWS else "AF_UNIX"

linux_only = pytest.mark.skipif(WINDOWS, reason="Unix-domain sockets are Linux's")
windows_only = pytest.mark.skipif(not WINDOWS, reason="named pipes are Windows's")


def is_wine():
    return WINDOWS and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


def needs_names_of_ones_own():
    if is_wine():
        pytest.skip("Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE")


# ---- waiting -------------------------------------------------------------


def eventually(condition, timeout=TIMEOUT):
    """Waits for what no event tells: true as soon as condition() is."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def let_go(condition):
    """The same of objects that are to go without a collection.

    A free-threaded interpreter frees what one thread made and another let go when the first runs Python code again,
    which a worker does at its next event, or at a collection.
    """

    def gone():
        if FREE_THREADED:
            gc.collect()
        return condition()

    return eventually(gone)


def seconds(function, *args, **kwargs):
    """How long a call takes, to the millisecond."""
    begin = time.perf_counter()
    function(*args, **kwargs)
    return round(time.perf_counter() - begin, 3)


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread


def finish(*threads):
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


class Log:
    """The events of a server in the order in which they came."""

    def __init__(self):
        self.entries = []
        self._changed = threading.Condition()

    def add(self, *entry):
        with self._changed:
            self.entries.append(entry)
            self._changed.notify_all()

    def clear(self):
        """Forgets all of them, and tells how many that were."""
        with self._changed:
            count = len(self.entries)
            self.entries.clear()
            return count

    def handler(self, name):
        return lambda *args: self.add(name, *args)

    def handlers(self, *names):
        """Keyword arguments for Server that log these events."""
        return {name: self.handler(name) for name in names}

    def of(self, name):
        """The arguments of every event of that name so far."""
        with self._changed:
            return [entry[1:] for entry in self.entries if entry[0] == name]

    def names(self):
        with self._changed:
            return [entry[0] for entry in self.entries]

    def wait(self, name, count=1, timeout=TIMEOUT):
        """The arguments of the events of that name, of which there are at least count."""
        with self._changed:
            self._changed.wait_for(lambda: sum(entry[0] == name for entry in self.entries) >= count, timeout)
        found = self.of(name)
        assert len(found) >= count, f"{len(found)} of {count} {name} in {timeout} s"
        return found


@contextlib.contextmanager
def unraisable():
    """The (exception, object) pairs that sys.unraisablehook gets meanwhile."""
    caught = []
    old = sys.unraisablehook
    sys.unraisablehook = lambda info: caught.append((info.exc_value, info.object))
    try:
        yield caught
    finally:
        sys.unraisablehook = old


# ---- clients -------------------------------------------------------------


def address_of(server_or_address):
    return getattr(server_or_address, "address", server_or_address)


def python_address(address):
    """An address as multiprocessing.connection and socket take it."""
    return "\0" + address[1:] if address.startswith("@") else address


class Client:
    """A client of the standard library's, every wait of which ends."""

    def __init__(self, server_or_address):
        address = python_address(address_of(server_or_address))
        self.connection = multiprocessing.connection.Client(address, FAMILY)

    def send(self, data):
        self.connection.send_bytes(data)

    def receive(self, timeout=TIMEOUT):
        assert self.connection.poll(timeout), f"nothing came in {timeout} s"
        return self.connection.recv_bytes()

    def receive_many(self, count):
        return [self.receive() for _ in range(count)]

    def request(self, data):
        self.send(data)
        return self.receive()

    def has_ended(self, timeout=TIMEOUT):
        """Waits for the server's end of the connection to go: that, and nothing before it."""
        try:
            assert self.connection.poll(timeout), f"still connected after {timeout} s"
            data = self.connection.recv_bytes()
        except (EOFError, OSError):
            return True
        raise AssertionError(f"{len(data)} bytes came instead of the end")

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def raw_client(server_or_address, timeout=TIMEOUT):
    """Linux: the client's socket itself."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    client.connect(python_address(address_of(server_or_address)))
    return client


def frame(data):
    """Linux: a message as it goes over the socket."""
    return struct.pack("!i", len(data)) + data


def receive_exactly(client, count):
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            raise EOFError(f"{len(data)} of {count} bytes came")
        data += part
    return data


def receive_frame(client):
    (length,) = struct.unpack("!i", receive_exactly(client, 4))
    return receive_exactly(client, length)


def echo(conn, data, cookie):
    conn.write(data)


def reply(conn, data, cookie):
    """An echo to clients that may be gone."""
    with contextlib.suppress(npipes.PipeClosedError):
        conn.write(data)


# ---- servers -------------------------------------------------------------


@contextlib.contextmanager
def running(server):
    """start() ... stop(), with a thread inside run() where events need one."""
    server.start()
    thread = None
    if not server.free_threading_events:
        thread = threading.Thread(target=_run, args=(server,), daemon=True)
        thread.start()
    try:
        yield server
    finally:
        server.stop()
        if thread:
            thread.join(TIMEOUT)
            assert not thread.is_alive(), "run() has not returned after stop()"


def _run(server):
    with contextlib.suppress(RuntimeError):  # stopped before this thread got here
        server.run()


# ---- other processes -----------------------------------------------------


def child_environment(**more):
    """os.environ, with npipes where this process has it."""
    environment = dict(os.environ, **more)
    home = str(Path(npipes.__file__).resolve().parent.parent)
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        path = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = home + (os.pathsep + path if path else "")
    return environment


def python_command(code, *args):
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]


def run_python(code, *args, timeout=60):
    """Runs a program to its end; its text, after it was found to have none to say on stderr."""
    done = subprocess.run(
        python_command(code, *args),
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0 and not done.stderr, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_module(directory, *args, timeout=90):
    """`python -m ARGS`, run to its end.

    In another directory: -m would find the package of a working directory that is the project's.
    """
    return subprocess.run(
        [sys.executable, "-m", *args],
        cwd=directory,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@contextlib.contextmanager
def python_process(code, *args):
    """A program that runs meanwhile, with pipes to talk to it line by line."""
    process = subprocess.Popen(
        python_command(code, *args),
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()
        process.wait(TIMEOUT)


def python_of(version):
    """A Python of this version, this one or another of this machine; skips the test where there is none."""
    found = sys.executable if version == "%d.%d" % sys.version_info[:2] else _find_interpreter(version)
    if not found:
        pytest.skip(f"no Python {version} on this machine")
    return found


def _find_interpreter(version):
    if WINDOWS:
        return None
    homes = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
    for home in homes:
        for path in sorted(home.glob(f"versions/{version}.*/bin/python")):
            return str(path)
    return shutil.which(f"python{version}")


# ---- what a process holds ------------------------------------------------


def thread_count():
    """Threads of this process, the engine's included where the system tells."""
    if WINDOWS:
        # Foreign threads that asked for current_thread() stay in the list for ever.
        return sum(not isinstance(t, threading._DummyThread) for t in threading.enumerate())
    return len(os.listdir("/proc/self/task"))


def descriptor_count():
    """Linux: open descriptors."""
    return len(os.listdir("/proc/self/fd"))


def resident_bytes():
    """Linux: memory that this process really has."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def spare(mebibytes):
    """Bytes that may stay resident; a free-threaded interpreter's allocator keeps more of what was freed."""
    return (mebibytes << 20) * (3 if FREE_THREADED else 1)


def interrupt_main_thread():
    """Ctrl-C, as the main thread gets it."""
    if WINDOWS:
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@contextlib.contextmanager
def interrupted_after(delay):
    """Ctrl-C that comes meanwhile."""
    timer = threading.Timer(delay, interrupt_main_thread)
    timer.start()
    try:
        yield
    finally:
        timer.join(TIMEOUT)


def interrupted(call, begun=None, by=interrupt_main_thread):
    """Ctrl-C ends call(), which waits.  It comes, by by(), when begun() is true, else after a moment; and never outside of
    this, where it would end all tests."""
    entered, returned = threading.Event(), False

    def interrupt():
        entered.wait(TIMEOUT)
        if begun:
            eventually(begun)
        else:
            time.sleep(0.1)
        by()

    thread = in_thread(interrupt)
    try:
        try:
            entered.set()
            call()
            returned = True
        finally:
            finish(thread)
    except KeyboardInterrupt:
        finish(thread)
    assert not returned, "nothing was interrupted"


class Outcome:
    """What a call in another thread gives or raises."""

    def __init__(self, function, *args, **kwargs):
        self._call = function, args, kwargs
        self.value = self.error = None
        self._thread = in_thread(self._run)

    def _run(self):
        function, args, kwargs = self._call
        try:
            self.value = function(*args, **kwargs)
        except BaseException as error:
            self.error = error

    def is_waiting(self, for_seconds=0.05):
        self._thread.join(for_seconds)
        return self._thread.is_alive()

    def get(self):
        finish(self._thread)
        if self.error:
            raise self.error
        return self.value
