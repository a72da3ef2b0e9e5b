"""connect() and call() can insist on a server of their own user."""

import os
import shutil
import tempfile

import pytest
from support import TIMEOUT, WINDOWS, echo, linux_only, python_process

import npipes

NOBODY = 65534

root_only = pytest.mark.skipif(not WINDOWS and os.getuid() != 0, reason="only root can be another user")

FOREIGN = """
    import os, sys
    import npipes

    os.umask(0)
    os.setuid(int(sys.argv[2]))
    server = npipes.Server(sys.argv[1], access="everyone", free_threading_events=True)
    server.on_message = lambda conn, data, cookie: conn.write(data)
    with server:
        print("ready", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def foreign():
    """Runs a server of another user."""
    directory = tempfile.mkdtemp(dir="/tmp")
    os.chmod(directory, 0o777)
    with python_process(FOREIGN, f"{directory}/socket", NOBODY) as process:
        if process.stdout.readline() != "ready\n":
            pytest.skip("another user can't read this installation")
        yield f"{directory}/socket"
    shutil.rmtree(directory)


def test_a_server_of_this_user_is_taken(serve):
    server = serve(on_message=echo)
    with npipes.connect(server.name, server_owner="user") as client:
        assert client.call(b"x", timeout=TIMEOUT) == b"x"
    assert npipes.call(server.name, b"y", server_owner="user") == b"y"


@linux_only
@root_only
def test_a_server_of_another_user_is_refused_where_that_is_asked_for(foreign):
    for refused in (
        lambda: npipes.connect(foreign, server_owner="user"),
        lambda: npipes.call(foreign, b"x", server_owner="user"),
    ):
        with pytest.raises(npipes.AccessDeniedError) as info:
            refused()
        assert foreign in str(info.value) and str(NOBODY) in str(info.value)
        assert info.value.operation == "connect"
    assert npipes.call(foreign, b"x") == b"x"


IMPOSTOR = """
    import os, socket, sys

    os.setuid(int(sys.argv[2]))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\\0" + sys.argv[1])
    listener.listen()
    print("ready", flush=True)
    sys.stdin.readline()
"""


@linux_only
@root_only
def test_an_abstract_name_that_another_user_took_is_refused(pipe_name):
    with python_process(IMPOSTOR, pipe_name, NOBODY) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(npipes.AccessDeniedError, match=str(NOBODY)):
            npipes.connect("@" + pipe_name)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("owner", ["root", 0, b"user", True])
def test_an_owner_that_is_none_is_refused(pipe_name, owner):
    with pytest.raises(ValueError, match="server_owner must be 'user' or None, not"):
        npipes.connect(pipe_name, server_owner=owner)
