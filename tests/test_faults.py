"""A system that fails in the middle: signals, descriptors, disks, directories, clocks.

Memory that runs out is tests/engine/test_memory.c, peers that are killed are tests/stress/kills.py.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import Counter

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Log,
    child_environment,
    echo,
    finish,
    in_thread,
    linux_only,
    python_command,
    run_python,
    seconds,
)

import npipes
import npipes.aio

# ---- signals that interrupt whatever waits --------------------------------

without_timers = pytest.mark.skipif(WINDOWS, reason="Windows has no signals that interrupt a system call")


@pytest.fixture
def storm():
    """A signal with a handler some thousand times a second, for any thread of this process; the handler's runs."""
    runs = []
    old = signal.signal(signal.SIGALRM, lambda *_: runs.append(None))
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    yield runs
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)
    assert len(runs) > 20


SIZES = [0, 1, 3000, 70_000, 1_200_000]


def messages(count):
    return [b"%06d" % number + bytes(SIZES[number % len(SIZES)]) for number in range(count)]


@without_timers
def test_a_blocking_client_loses_nothing_to_signals(serve, storm):
    server = serve(on_message=echo)
    with npipes.connect(server.name) as client:
        for message in messages(400):
            client.send_bytes(message, timeout=TIMEOUT)
            assert client.recv_bytes(timeout=TIMEOUT) == message
        for _ in range(10):
            client.send_many(messages(3), timeout=TIMEOUT)
            got = []
            while len(got) < 3:
                got += client.recv_many(timeout=TIMEOUT)
            assert got == messages(3)


@without_timers
@pytest.mark.parametrize("how", ["run", "dispatch"])
def test_a_server_in_the_main_thread_loses_nothing_to_signals(pipe_name, storm, how):
    sent, answered = Counter(), []
    with npipes.Server(
        pipe_name,
        on_message=lambda conn, data, cookie: conn.write(data, len(data)),
        on_sent=lambda conn, cookie: sent.update([cookie]),
    ) as server:

        def talk():
            with npipes.connect(pipe_name) as client:
                for message in messages(400):
                    client.send_bytes(message, timeout=TIMEOUT)
                    answered.append(client.recv_bytes(timeout=TIMEOUT) == message)
            server.quit()

        talking = in_thread(talk)
        if how == "run":
            server.run(timeout=TIMEOUT)
        else:
            while talking.is_alive():
                server.dispatch(timeout=0.1)
        finish(talking)
        server.dispatch()
    assert answered == [True] * 400
    assert sent.total() == 400


@without_timers
def test_connecting_and_accepting_keep_their_time_under_signals(pipe_name, storm):
    def not_there():
        with pytest.raises(npipes.PipeTimeoutError):
            npipes.connect(pipe_name, timeout=0.2)

    assert 0.2 <= seconds(not_there) < 10
    later = threading.Timer(0.1, lambda: listening.append(npipes.Listener(pipe_name)))
    listening = []
    later.start()
    with npipes.connect(pipe_name, timeout=TIMEOUT) as client:
        later.join(TIMEOUT)
        with listening[0] as listener, listener.accept(timeout=TIMEOUT) as accepted:
            client.send_bytes(b"x")
            assert accepted.recv_bytes(timeout=TIMEOUT) == b"x"

            def nobody():
                with pytest.raises(npipes.PipeTimeoutError):
                    listener.accept(timeout=0.2)

            assert 0.2 <= seconds(nobody) < 10


@without_timers
def test_a_loop_loses_nothing_to_signals(loops, pipe_name, storm):
    async def handler(conn):
        async for message in conn:
            await conn.send(message)

    async def main():
        async with npipes.aio.serve(handler, pipe_name), npipes.aio.connect(pipe_name) as conn:
            for message in messages(100):
                await conn.send(message)
                assert await conn.recv() == message

    loops.run(main())


# ---- descriptors ----------------------------------------------------------


@linux_only
def test_without_descriptors_every_beginning_fails_by_name_and_the_next_goes_well(pipe_name, new_name):
    run_python(
        """
        import errno, os, resource, sys, threading
        import npipes

        served, other = sys.argv[1:]

        def fails(call):
            try:
                call()
            except OSError as error:
                assert error.errno == errno.EMFILE, repr(error)
                assert other in str(error) or served in str(error) or call is npipes.Pipe, error
            else:
                raise AssertionError("it was done without a descriptor")

        def reply(conn, data, cookie):
            conn.write(data)

        server = npipes.Server(served, free_threading_events=True, on_message=reply)
        listener = npipes.Listener()
        errors, told = [], threading.Event()
        manager = npipes.ClientManager(free_threading_events=True,
                                       on_error=lambda conn, error: (errors.append(error), told.set()))
        with server, listener, manager, npipes.connect(served) as client:
            assert client.call(b"x", timeout=20) == b"x"    # has all that it needs to wait, from here on
            before = len(os.listdir("/proc/self/fd"))
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            fails(lambda: npipes.connect(served))
            fails(lambda: npipes.Listener(other))
            fails(npipes.Server(other).start)
            fails(npipes.Pipe)
            manager.connect(served)
            assert told.wait(20) and errors[0].errno == errno.EMFILE, errors
            assert client.call(b"x", timeout=20) == b"x"
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert len(os.listdir("/proc/self/fd")) == before
            with npipes.connect(served) as again, npipes.Server(other), npipes.Listener():
                assert again.call(b"x", timeout=20) == b"x"
    """,
        pipe_name,
        new_name(),
    )


# ---- the directory of the sockets -----------------------------------------


@pytest.fixture
def directory(monkeypatch):
    """Linux: a directory of its own for this test's sockets."""
    path = tempfile.mkdtemp(prefix="np-", dir="/tmp")
    monkeypatch.setenv("NPIPES_DIR", path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@linux_only
def test_a_server_outlives_the_directory_of_its_socket(directory, serve):
    server = serve("demo", on_message=echo)
    log = Log()
    with npipes.connect("demo") as client:
        shutil.rmtree(directory)
        assert client.call(b"x", timeout=TIMEOUT) == b"x"
        with pytest.raises(npipes.PipeNotFoundError, match="nobody serves"):
            npipes.connect("demo", timeout=0)
        with pytest.raises(npipes.PipeTimeoutError, match="nobody served"):
            npipes.connect("demo", timeout=0.1)
        with npipes.ClientManager(free_threading_events=True, **log.handlers("on_error")) as manager:
            manager.connect("demo", timeout=0)
            assert isinstance(log.wait("on_error")[0][1], npipes.PipeNotFoundError)
        assert npipes.find() == []
        assert server.broadcast(b"news") == 1
        assert client.recv_bytes(timeout=TIMEOUT) == b"news"
    server.stop()
    assert not os.path.exists(directory)
    server.start()
    assert os.stat(directory).st_mode & 0o777 == 0o700
    with npipes.connect("demo") as client:
        assert client.call(b"again", timeout=TIMEOUT) == b"again"


@linux_only
def test_a_server_whose_directory_is_gone_does_not_disturb_the_next(directory, serve):
    first = serve("demo", on_message=echo)
    shutil.rmtree(directory)
    second = serve("demo", on_message=echo)
    first.stop()
    with npipes.connect("demo") as client:
        assert client.call(b"x", timeout=TIMEOUT) == b"x"
    second.stop()
    assert os.listdir(directory) == []


@linux_only
def test_a_listener_outlives_the_directory_of_its_socket(directory):
    with npipes.Listener("demo") as listener, npipes.connect("demo") as client:
        shutil.rmtree(directory)
        with listener.accept(timeout=TIMEOUT) as accepted:
            client.send_bytes(b"x")
            assert accepted.recv_bytes(timeout=TIMEOUT) == b"x"
    assert not os.path.exists(directory)


@linux_only
def test_where_no_directory_can_be_made_the_start_says_so(directory, monkeypatch):
    monkeypatch.setenv("NPIPES_DIR", f"{directory}/gone/npipes")
    for begin in (npipes.Server("demo").start, lambda: npipes.Listener("demo")):
        with pytest.raises(FileNotFoundError, match="gone/npipes"):
            begin()


FULL_DISK = """
    import errno, os, sys, time
    import npipes

    directory = sys.argv[1]
    os.environ["NPIPES_DIR"] = directory + "/npipes"

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def fill():
        for number in range(1000):
            try:
                open(f"{directory}/{number}", "x").close()
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return
        raise AssertionError("the disk is not full")

    def has_room_again():
        for name in os.listdir(directory):
            if name.isdigit():
                os.unlink(f"{directory}/{name}")

    def check_full(begin):
        before = descriptors()
        try:
            begin()
        except OSError as error:
            assert error.errno == errno.ENOSPC and os.environ["NPIPES_DIR"] in str(error), repr(error)
        else:
            raise AssertionError("it was done on a full disk")
        assert descriptors() == before

    def reply(conn, data, cookie):
        conn.write(data)

    server = npipes.Server("demo", free_threading_events=True, on_message=reply)
    for made in (False, True):          # the directory
        fill()
        check_full(server.start)
        check_full(lambda: npipes.Listener("demo"))
        has_room_again()
        os.makedirs(os.environ["NPIPES_DIR"], 0o700, exist_ok=True)
    server.start()
    fill()
    alone = descriptors()
    with npipes.connect("demo") as client:
        assert client.call(bytes(100_000), timeout=20) == bytes(100_000)
    while descriptors() > alone:        # the server has yet to see that it left
        time.sleep(0.01)
    check_full(npipes.Server("other").start)
    server.stop()
    assert os.listdir(os.environ["NPIPES_DIR"]) == []
    server.start()                      # in the place that it gave back
    server.stop()
    print("done")
"""


@linux_only
def test_on_a_full_disk_a_server_says_so_and_a_live_one_goes_on(tmp_path):
    mount = f"mount -t tmpfs -o size=64k,nr_inodes=20 npipes {tmp_path}"
    if (
        os.geteuid()
        or not shutil.which("unshare")
        or subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("a small disk of one's own takes root, and a mount namespace")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount + ' && exec "$@"', "sh", *python_command(FULL_DISK, tmp_path)],
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "done\n", 0)


# ---- a clock that jumps ---------------------------------------------------

# The time of day goes an hour back and forth with every look at it.
JUMPING_CLOCK = r"""
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int looks;

static long jump(void) { return __atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED) % 2 ? 3600 : -3600; }

int clock_gettime(clockid_t clock, struct timespec *t) {
    int r = (int)syscall(SYS_clock_gettime, clock, t);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        t->tv_sec += jump();
    return r;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec;
    return now.tv_sec;
}
"""

UNDER_A_JUMPING_CLOCK = """
    import asyncio, socket, sys, threading, time
    import npipes, npipes.aio

    name = sys.argv[1]
    looks = [time.time() for _ in range(4)]
    assert max(looks) - min(looks) > 7000, looks       # it does jump

    def takes(least, call, *expected):
        begin = time.monotonic()
        try:
            call()
        except expected:
            pass
        else:
            assert not expected, expected
        taken = time.monotonic() - begin
        assert least <= taken < 15, f"{taken} seconds for {least}"

    def reply(conn, data, cookie):
        conn.write(data)

    late = npipes.PipeTimeoutError
    takes(0.1, lambda: npipes.connect(name, timeout=0.1), late)
    errors, told, ended = [], threading.Event(), threading.Event()
    server = npipes.Server(name, on_message=reply, message_timeout=0.2,
                           on_error=lambda conn, error: (errors.append(error), told.set()))
    with server, npipes.connect(name) as client:
        takes(0.1, lambda: server.run(timeout=0.1))
        takes(0.1, lambda: client.recv_bytes(timeout=0.1), late)
        takes(0.1, lambda: client.poll(0.1))
    ends = npipes.Pipe()
    takes(0.1, lambda: ends[0].send_bytes(bytes(50_000_000), timeout=0.1), late)
    server.free_threading_events = True
    with server, npipes.connect(name) as client:
        for _ in range(200):
            assert client.call(b"x", timeout=15) == b"x"
        errors.clear(), told.clear()
        with socket.socket(socket.AF_UNIX) as half:
            half.connect(server.address)
            half.sendall(bytes([0, 0, 0, 5, 1]))
            takes(0.1, lambda: told.wait(15))
            assert isinstance(errors[0], late), errors
            assert half.recv(1) == b""
        connected = threading.Semaphore(0)
        with npipes.ClientManager(free_threading_events=True, reconnect=True, reconnect_delay=(0.05, 0.1),
                                  on_error=lambda conn, error: None,   # the server may stop before it has the message
                                  on_connected=lambda conn: (connected.release(), conn.write(b"bye"))) as manager:
            manager.connect(name)
            assert connected.acquire(timeout=15)
            server.stop()
            server.start()
            assert connected.acquire(timeout=15)
    with npipes.Listener(name, authkey=b"key") as listener:
        takes(0.1, lambda: listener.accept(timeout=0.1), late)
        takes(0.1, lambda: npipes.connect(name, authkey=b"key", timeout=0.1), late)

    async def main():
        async def handler(conn):
            async for message in conn:
                await conn.send(message)

        async with npipes.aio.serve(handler, name):
            async with npipes.aio.connect(name) as conn:
                for _ in range(50):
                    await conn.send(b"x")
                    assert await conn.recv() == b"x"
        try:
            await npipes.aio.connect(name, timeout=0.1)
        except npipes.PipeNotFoundError:
            return
        raise AssertionError("connected to nobody")

    takes(0.1, lambda: asyncio.run(main()))
    print("done")
"""


@linux_only
def test_time_goes_by_a_clock_that_does_not_jump(pipe_name, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("the clock that jumps is made with a C compiler")
    source, library = tmp_path / "clock.c", tmp_path / "clock.so"
    source.write_text(JUMPING_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", source, "-o", library], check=True)
    done = subprocess.run(
        python_command(UNDER_A_JUMPING_CLOCK, pipe_name),
        env=child_environment(LD_PRELOAD=str(library)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "done\n", 0)
