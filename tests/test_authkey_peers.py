"""The handshake is that of every Python's multiprocessing.connection, in both roles."""

import subprocess

import pytest
from support import FAMILY, TIMEOUT, Log, Outcome, echo, python_address, python_of

import npipes

KEY = b"a key of both"
VERSIONS = [f"3.{minor}" for minor in range(8, 15)]

CLIENT = """
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

address, family = sys.argv[1:3]
for number in range(3):
    client = Client(address, family, authkey=b"a key of both")
    client.send_bytes(b"number %d" % number)
    assert client.recv_bytes() == b"number %d" % number
    client.close()
try:
    Client(address, family, authkey=b"another key")
except AuthenticationError as error:
    print(error)
"""

LISTENER = """
import sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Listener

listener = Listener(family=sys.argv[1], authkey=b"a key of both")
print(listener.address, flush=True)
refused = 0
while True:
    try:
        client = listener.accept()
    except AuthenticationError as error:
        refused += 1
        continue
    message = client.recv_bytes()
    client.send_bytes(b"%d refused, " % refused + message)
    client.close()
"""


@pytest.fixture(params=VERSIONS)
def python(request):
    return python_of(request.param)


def run_client(python, address):
    done = subprocess.run(
        [python, "-c", CLIENT, python_address(address), FAMILY],
        timeout=60,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "digest sent was rejected"


def test_its_client_is_a_servers(serve, free, python):
    log = Log()
    server = serve(authkey=KEY, free_threading_events=free, on_message=echo, **log.handlers("on_connected", "on_error"))
    run_client(python, server.address)
    ((conn, error),) = log.wait("on_error")
    assert conn is None and type(error) is npipes.AuthenticationError
    assert len(log.of("on_connected")) == 3


def test_its_client_is_a_listeners(pipe_name, python, caplog):
    def serve():
        for _ in range(3):
            with listener.accept(timeout=TIMEOUT) as client:
                client.send_bytes(client.recv_bytes(timeout=TIMEOUT))
        with pytest.raises(npipes.PipeClosedError):
            listener.accept(timeout=TIMEOUT)

    with npipes.Listener(pipe_name, authkey=KEY) as listener:
        served = Outcome(serve)
        run_client(python, listener.address)
    served.get()
    assert "does not have the same authkey" in caplog.text


@pytest.fixture
def listener_address(python):
    process = subprocess.Popen(
        [python, "-c", LISTENER, FAMILY], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def test_its_listener_is_a_blocking_clients(listener_address):
    with npipes.connect(listener_address, authkey=KEY) as client:
        assert client.call(b"hello", timeout=TIMEOUT) == b"0 refused, hello"
    with pytest.raises(npipes.AuthenticationError, match="the server refused the authkey"):
        npipes.connect(listener_address, authkey=b"another key")
    assert npipes.call(listener_address, b"again", authkey=KEY) == b"1 refused, again"


def test_its_listener_is_a_managers(listener_address, manage, free):
    log = Log()
    events = log.handlers("on_connected", "on_message", "on_error", "on_disconnected")
    manager = manage(authkey=KEY, free_threading_events=free, **events)
    conn = manager.connect(listener_address)
    log.wait("on_connected")
    conn.write(b"hello")
    assert log.wait("on_message") == [(conn, b"0 refused, hello", None)]
    log.wait("on_disconnected")
    assert not log.of("on_error") and conn.error is None
    other = manage(authkey=b"another key", on_error=log.handler("refused"))
    conn = other.connect(listener_address)
    ((about, error),) = log.wait("refused")
    assert about is conn and type(error) is npipes.AuthenticationError
