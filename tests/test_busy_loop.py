"""A loop that is never idle still looks at the clock and for signals."""

import signal
import threading
from contextlib import suppress

from support import (
    TIMEOUT,
    Client,
    linux_only,
    python_process,
)

FLOOD = """
    import sys, threading
    import npipes

    name, clients, timeout = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with npipes.Server(name) as server:
        print(server.address, flush=True)
        while server.stats.connections < clients:
            server.run(timeout=0.01)
        try:
            print("flooded", flush=True)
            server.run(timeout=float(timeout) if timeout else None)
            print("returned", flush=True)
        except KeyboardInterrupt:
            print("KeyboardInterrupt", flush=True)
        threading.Event().wait()
"""


def flood(process, clients, after=lambda: None):
    """What a server under a flood of messages has to say when its run() returns."""
    address = process.stdout.readline().strip()

    def send():
        with suppress(OSError), Client(address) as client:
            while True:
                client.send(bytes(1000))

    threads = [threading.Thread(target=send) for _ in range(clients)]
    try:
        for thread in threads:
            thread.start()
        assert process.stdout.readline() == "flooded\n"
        after()
        late = threading.Timer(TIMEOUT, process.kill)
        late.start()
        said = process.stdout.readline()
        late.cancel()
        process.kill()  # under Wine a process that is flooded may not end by itself
        return said + process.stdout.read(), process.stderr.read()
    finally:
        process.kill()
        for thread in threads:
            thread.join(TIMEOUT)


def test_a_timeout_holds_while_clients_flood_the_server(pipe_name):
    """The loop is never idle: that must not keep it from looking at the time."""
    with python_process(FLOOD, pipe_name, 3, "0.3") as process:
        assert flood(process, 3) == ("returned\n", "")


@linux_only
def test_ctrl_c_ends_run_under_a_flood_that_no_handler_sees(pipe_name):
    """No Python code runs that would look for signals by itself."""
    with python_process(FLOOD, pipe_name, 3, "") as process:
        said = flood(process, 3, lambda: process.send_signal(signal.SIGINT))
        assert said == ("KeyboardInterrupt\n", "")
