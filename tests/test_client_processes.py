"""A Client in a child of fork, and on its way to another process."""

import multiprocessing
import pickle
import sys
from multiprocessing import reduction, resource_sharer

import pytest
from support import TIMEOUT, Outcome, linux_only, python_address, run_python

import npipes

METHODS = ["spawn"] if sys.platform == "win32" else ["fork", "spawn", "forkserver"]


def answer(conn):
    conn.send_bytes(b"child: " + conn.recv_bytes(timeout=TIMEOUT))
    conn.close()


def pass_on(carrier):
    with carrier.recv() as conn:
        conn.send_bytes(b"%d %d %s" % (conn.readable, conn.writable, conn.address.encode()))
        conn.recv_bytes(timeout=TIMEOUT)


@pytest.fixture
def sharer():
    """The thread that gives descriptors away ends with the test."""
    yield
    resource_sharer.stop(TIMEOUT)


@pytest.mark.parametrize("method", METHODS)
def test_a_client_is_an_argument_of_a_process(ends, method):
    a, b = ends
    process = multiprocessing.get_context(method).Process(target=answer, args=(b,))
    process.start()
    b.close()
    assert a.call(b"hello", timeout=TIMEOUT) == b"child: hello"
    with pytest.raises(EOFError):
        a.recv_bytes(timeout=TIMEOUT)
    process.join(TIMEOUT)
    assert process.exitcode == 0


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_client_is_sent_to_a_process(sharer, ends, method):
    a, b = ends
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=pass_on, args=(theirs,))
    process.start()
    ours.send(b)
    assert a.recv_bytes(timeout=TIMEOUT) == b"1 1 " + b.address.encode()
    b.close()
    a.send_bytes(b"done")
    process.join(TIMEOUT)
    assert process.exitcode == 0
    with pytest.raises(EOFError):
        a.recv_bytes(timeout=TIMEOUT)


def test_a_copy_keeps_what_the_client_was(sharer):
    r, w = npipes.Pipe(duplex=False, max_message_size=1000)
    copies = [pickle.loads(reduction.ForkingPickler.dumps(end)) for end in (r, w)]
    r.close()
    w.close()
    r, w = copies
    assert (r.readable, r.writable, w.readable, w.writable) == (True, False, False, True)
    assert r.max_message_size == w.max_message_size == 1000
    w.send_bytes(b"x")
    assert r.recv_bytes(timeout=TIMEOUT) == b"x"
    r.close()
    w.close()


@linux_only
def test_a_client_inside_a_message_stays(listener):
    import socket

    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(python_address(listener.address))
        with listener.accept() as client:
            peer.sendall(b"\0\0")
            with pytest.raises(npipes.PipeTimeoutError):
                client.recv_bytes(timeout=0)
            with pytest.raises(npipes.PipeError, match="in part"):
                pickle.dumps(client)


def test_a_closed_client_and_a_listener_stay(listener):
    a, _ = npipes.Pipe()
    a.close()
    with pytest.raises(npipes.PipeClosedError):
        pickle.dumps(a)
    with pytest.raises(TypeError):
        pickle.dumps(listener)


# ---- fork -----------------------------------------------------------------

FORK = """
    import os, sys, threading, time, warnings
    import npipes

    warnings.simplefilter("ignore")     # 3.12 and later warn of every fork beside threads

    def fork(child):
        pid = os.fork()
        if pid == 0:
            try:
                child()
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        return pid

    def wait(pid):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def raises(error, function, *args, **kwargs):
        try:
            function(*args, **kwargs)
        except error:
            return True
"""


@linux_only
def test_a_child_of_fork_uses_what_it_inherits():
    run_python(
        FORK
        + """
    a, b = npipes.Pipe()
    pid = fork(lambda: b.send_bytes(b"child: " + b.recv_bytes(timeout=10)))
    assert a.call(b"x", timeout=10) == b"child: x"
    wait(pid)
    b.send_bytes(b"parent")
    assert a.recv_bytes(timeout=10) == b"parent"
    """
    )


@linux_only
def test_a_close_on_one_side_of_fork_is_none_on_the_other():
    run_python(
        FORK
        + """
    a, b = npipes.Pipe()
    waiting = threading.Thread(target=a.recv_bytes)
    waiting.start()
    time.sleep(0.1)
    def child():
        assert not a.closed
        a.close()
        assert a.closed and raises(npipes.PipeClosedError, a.recv_bytes)
    wait(fork(child))
    waiting.join(0.1)
    assert waiting.is_alive() and not a.closed
    b.send_bytes(b"x")
    waiting.join(10)
    assert not waiting.is_alive()
    """
    )


@linux_only
def test_a_child_of_fork_is_not_held_up_by_threads_that_it_has_not():
    run_python(
        FORK
        + """
    a, b = npipes.Pipe()
    c, d = npipes.Pipe()
    threads = [threading.Thread(target=f, daemon=True) for f in
               (a.recv_bytes, lambda: a.send_bytes(bytes(50_000_000)), c.recv_bytes)]
    for t in threads:
        t.start()
    time.sleep(0.1)
    def child():
        assert raises(npipes.PipeTimeoutError, c.recv_bytes, timeout=0.1)
        assert not c.poll(0.1)
        c.close()
        assert raises(npipes.PipeTimeoutError, a.send_bytes, b"x", timeout=0.1)
        a.close()
    wait(fork(child))
    """
    )


@linux_only
def test_the_parents_close_does_not_end_the_childs_wait():
    run_python(
        FORK
        + """
    a, b = npipes.Pipe()
    assert raises(npipes.PipeTimeoutError, a.recv_bytes, timeout=0.01)
    r, w = os.pipe()
    def child():
        os.write(w, b"x")
        assert a.recv_bytes(timeout=10) == b"late"
    pid = fork(child)
    os.read(r, 1)
    a.close()
    time.sleep(0.1)
    b.send_bytes(b"late")
    wait(pid)
    """
    )


@linux_only
def test_a_child_of_fork_accepts_and_leaves_the_address(pipe_name):
    run_python(
        FORK
        + """
    listener = npipes.Listener(sys.argv[1])
    def child():
        with listener.accept(timeout=10) as conn:
            conn.send_bytes(conn.recv_bytes(timeout=10))
        listener.close()
    pid = fork(child)
    assert npipes.call(sys.argv[1], b"x") == b"x"
    wait(pid)
    assert os.path.exists(listener.address)
    t = threading.Thread(target=lambda: npipes.connect(sys.argv[1]).close())
    t.start()
    listener.accept(timeout=10).close()
    t.join()
    listener.close()
    assert not os.path.exists(listener.address)
    """,
        pipe_name,
    )


@linux_only
def test_a_signal_handler_that_forks_inside_a_wait_has_it_on_both_sides():
    run_python(
        FORK
        + """
    import signal
    a, b = npipes.Pipe()
    children = []
    signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    assert raises(npipes.PipeTimeoutError, a.recv_bytes, timeout=0.3)
    a.close()
    assert raises(npipes.PipeClosedError, a.recv_bytes)
    if children[0] == 0:
        os._exit(0)
    wait(children[0])
    """
    )


def test_threads_and_processes_share_one_end(ends):
    """Two processes and four threads send; every message is whole."""
    a, b = ends
    context = multiprocessing.get_context(METHODS[0])
    if METHODS[0] != "fork":
        pytest.skip("takes fork to share without a copy")
    process = context.Process(target=lambda: [a.send_bytes(b"c" * 100) for _ in range(100)])
    process.start()
    sending = [Outcome(a.send_bytes, b"p" * 100) for _ in range(4)]
    got = sorted(b.recv_bytes(timeout=TIMEOUT) for _ in range(104))
    assert got == [b"c" * 100] * 100 + [b"p" * 100] * 4
    process.join(TIMEOUT)
    for s in sending:
        s.get()
