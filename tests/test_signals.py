"""Signals reach a program inside run() and dispatch()."""

import signal
import threading

import pytest
from support import (
    TIMEOUT,
    Client,
    Log,
    interrupted,
    linux_only,
    python_process,
    seconds,
    windows_only,
)


def test_an_interrupt_inside_a_handler_ends_run(server):
    server.on_message = lambda conn, data, cookie: signal.raise_signal(signal.SIGINT)
    with Client(server) as client:
        client.send(b"x")
        with pytest.raises(KeyboardInterrupt):
            server.run(timeout=TIMEOUT)
    assert server.is_running


SERVER_IN_RUN = """
    import os, signal, sys, threading
    import npipes

    name, how = sys.argv[1:3]
    server = npipes.Server(name, free_threading_events=how.startswith("free"))
    with server:
        if "handler" in how:
            signal.signal(signal.SIGTERM, lambda *_: server.quit())
        try:
            print(server.address, flush=True)
            if "dispatch" in how:
                while True:
                    server.dispatch(timeout=None)
            server.run()
            print("returned")
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
"""


@linux_only
@pytest.mark.parametrize("how", ["free", "run", "dispatch"])
def test_ctrl_c_ends_run_and_dispatch(pipe_name, how):
    with python_process(SERVER_IN_RUN, pipe_name, how) as process:
        with Client(process.stdout.readline().strip()):
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (0, "KeyboardInterrupt\n", "")


@linux_only
@pytest.mark.parametrize("how", ["free handler", "run handler"])
def test_a_signal_handler_may_quit(pipe_name, how):
    with python_process(SERVER_IN_RUN, pipe_name, how) as process:
        with Client(process.stdout.readline().strip()):
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (0, "returned\n", "")


def test_a_signal_raised_in_another_thread_reaches_a_handler_of_run(server):
    """raise_signal marks the signal; run() looks for it at the latest with the next event."""
    log = Log()
    old = signal.signal(signal.SIGINT, lambda *_: (log.add("signal"), server.quit()))
    try:

        def raiser():
            signal.raise_signal(signal.SIGINT)
            client.send(b"x")

        with Client(server) as client:
            thread = threading.Thread(target=raiser)
            thread.start()
            server.run(timeout=TIMEOUT)
            thread.join(TIMEOUT)
    finally:
        signal.signal(signal.SIGINT, old)
    assert log.entries == [("signal",)]


@windows_only
def test_ctrl_c_wakes_run_on_windows(server):
    interrupted(lambda: server.run(timeout=TIMEOUT))
    assert server.is_running


@linux_only
def test_other_threads_signals_do_not_end_the_wait_early(server):
    """A signal with a handler that does nothing leaves the timeout alone."""
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        timers = [threading.Timer(i / 50, signal.pthread_kill, [threading.main_thread().ident, signal.SIGUSR1]) for i in range(5)]
        for timer in timers:
            timer.start()
        assert seconds(server.run, timeout=0.3) >= 0.3
        for timer in timers:
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, old)
