"""Who may connect, and who did."""

import contextlib
import os
import stat
import subprocess
import sys
import tempfile

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Client,
    Log,
    Outcome,
    child_environment,
    echo,
    finish,
    in_thread,
    linux_only,
    python_command,
    python_process,
    windows_only,
)

import npipes

NOBODY = 65534

root_only = pytest.mark.skipif(WINDOWS or os.geteuid() != 0, reason="only root can become another user")


# ---- the parameter -------------------------------------------------------


def test_access_is_for_this_user_by_default(pipe_name):
    server = npipes.Server(pipe_name)
    assert server.access == "user"
    for value in ("everyone", "user"):
        server.access = value
        assert server.access == value
    for value in (None, 1.5, b"user", ["user"]):
        with pytest.raises(ValueError, match="access must be 'user', 'everyone'"):
            server.access = value
    assert server.access == "user"
    with pytest.raises(AttributeError):
        del server.access


@linux_only
@pytest.mark.parametrize("value", [-1, 0o1000, 2**70, "D:P(A;;GA;;;BA)", "root", ""])
def test_linux_takes_file_modes_and_no_descriptors(pipe_name, value):
    with pytest.raises(ValueError, match="file mode"):
        npipes.Server(pipe_name, access=value)


@windows_only
def test_windows_takes_descriptors_and_no_file_modes(pipe_name):
    with pytest.raises(ValueError, match="SDDL"):
        npipes.Server(pipe_name, access=0o600)
    server = npipes.Server(pipe_name, access="D:P(A;;GA;;;WD)", free_threading_events=True, on_message=echo)
    with server, Client(server) as client:
        assert client.request(b"x") == b"x"
    server.access = "this is no descriptor"
    with pytest.raises((ValueError, OSError)):
        server.start()
    assert not server.is_running


# ---- file modes ----------------------------------------------------------


@linux_only
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
@pytest.mark.parametrize(
    ("access", "mode"), [("user", 0o600), ("everyone", 0o666), (0o660, 0o660), (0o640, 0o640), (0, 0), (0o777, 0o777)]
)
def test_the_socket_file_has_the_mode_whatever_the_umask(pipe_name, access, mode, umask):
    old = os.umask(umask)
    try:
        with npipes.Server(pipe_name, access=access) as server:
            assert stat.S_IMODE(os.stat(server.address).st_mode) == mode
    finally:
        os.umask(old)


# ---- other users ---------------------------------------------------------

OTHER_USER = """
    import os, sys
    from multiprocessing.connection import Client

    address = sys.argv[1].replace("@", chr(0))
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
    try:
        with Client(address, "AF_UNIX") as client:
            client.send_bytes(b"hello")
            print(client.recv_bytes().decode(), os.getpid())
    except (OSError, EOFError) as error:
        print(type(error).__name__)
"""


def as_nobody(address):
    """What a client that runs as another user gets to see."""
    done = subprocess.run(
        python_command(OTHER_USER, address, NOBODY), env=child_environment(), capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def public_path():
    """A path that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        yield f"{directory}/s"


@root_only
def test_another_user_can_not_open_the_file(serve, public_path):
    log = Log()
    serve(public_path, on_message=echo, **log.handlers("on_connected", "on_error"))
    assert as_nobody(public_path) == ["PermissionError"]
    assert not log.entries


@root_only
@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_another_user_is_refused_by_his_uid_even_where_he_can_connect(serve, public_path, pipe_name, free, kind):
    log = Log()
    name = public_path if kind == "path" else "@" + pipe_name
    server = serve(
        name, free_threading_events=free, on_message=echo, **log.handlers("on_connected", "on_disconnected", "on_error")
    )
    if kind == "path":
        os.chmod(public_path, 0o666)
    (result,) = as_nobody(name)
    assert result in ("EOFError", "ConnectionResetError", "BrokenPipeError")
    ((conn, error),) = log.wait("on_error")
    assert conn is None
    assert type(error) is npipes.AccessDeniedError
    assert isinstance(error, PermissionError) and isinstance(error, npipes.PipeError)
    assert (error.operation, error.cookie) == ("accept", None)
    assert str(NOBODY) in str(error)
    assert len(log.entries) == 1
    with Client(server) as client:  # this user is served as before
        assert client.request(b"x") == b"x"


@root_only
def test_an_abstract_name_is_checked_whatever_access_says(serve, pipe_name):
    log = Log()
    serve("@" + pipe_name, access="everyone", on_message=echo, **log.handlers("on_error"))
    as_nobody("@" + pipe_name)
    ((_, error),) = log.wait("on_error")
    assert type(error) is npipes.AccessDeniedError


@root_only
@pytest.mark.parametrize("access", ["everyone", 0o666])
def test_everyone_may_connect_where_access_says_so(serve, public_path, access):
    log = Log()
    serve(public_path, access=access, on_message=echo, on_connected=lambda conn: log.add("peer", conn.peer))
    said, pid = as_nobody(public_path)
    assert said == "hello"
    ((peer,),) = log.of("peer")
    assert (peer.uid, peer.gid, peer.pid) == (NOBODY, NOBODY, int(pid))


@root_only
def test_refused_clients_give_their_places_back(serve, pipe_name):
    log = Log()
    server = serve("@" + pipe_name, max_instances=1, on_message=echo, **log.handlers("on_error"))
    for _ in range(3):
        as_nobody("@" + pipe_name)
    log.wait("on_error", 3)
    with Client(server) as client:
        assert client.request(b"x") == b"x"
    assert server.stats.errors == 3


@root_only
def test_root_may_connect_to_every_users_server():
    code = """
        import os, sys, npipes      # which may be where only root can read

        os.setgid(65534)
        os.setuid(65534)
        server = npipes.Server(sys.argv[1], free_threading_events=True,
                               on_message=lambda conn, data, cookie: conn.write(data))
        server.start()
        print("started", flush=True)
        sys.stdin.readline()
    """
    with tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as directory:
        os.chown(directory, NOBODY, NOBODY)
        path = f"{directory}/s"
        process = subprocess.Popen(
            python_command(code, path), env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with contextlib.closing(process.stdin), process.stdout:
            assert process.stdout.readline() == "started\n"
            with Client(path) as client:
                assert client.request(b"x") == b"x"
        assert process.wait(TIMEOUT) == 0


# ---- the peer ------------------------------------------------------------


@linux_only
def test_the_peer_is_known_by_pid_uid_gid_and_user(serve, connect):
    import pwd

    log = Log()
    connect(serve(**log.handlers("on_connected")))
    ((conn,),) = log.wait("on_connected")
    peer = conn.peer
    assert isinstance(peer, npipes.Peer)
    assert peer == (os.getpid(), os.getuid(), os.getgid(), None, pwd.getpwuid(os.getuid()).pw_name)
    assert (peer.pid, peer.uid, peer.gid, peer.sid) == peer[:4]
    assert conn.peer is peer


@windows_only
def test_the_peer_is_known_by_pid_sid_and_user(serve, connect):
    log = Log()
    connect(serve(**log.handlers("on_connected")))
    ((conn,),) = log.wait("on_connected")
    peer = conn.peer
    assert isinstance(peer, npipes.Peer)
    assert peer.pid == os.getpid()
    assert (peer.uid, peer.gid) == (None, None)
    assert peer.sid is None or peer.sid.startswith("S-1-")
    assert conn.peer is peer


def test_the_peers_pid_is_that_of_another_process(serve):
    log = Log()
    server = serve(on_message=echo, **log.handlers("on_connected"))
    code = """
        import os, sys
        from multiprocessing.connection import Client

        with Client(sys.argv[1]) as client:
            client.send_bytes(b"x")
            client.recv_bytes()
            print(os.getpid(), flush=True)
            sys.stdin.readline()
    """
    process = subprocess.Popen(
        python_command(code, server.address), env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with contextlib.closing(process.stdin), process.stdout:
        pid = int(process.stdout.readline())
        ((conn,),) = log.wait("on_connected")
        assert conn.peer.pid == pid
    process.wait(TIMEOUT)


def test_a_peer_asked_for_in_time_stays_known(serve, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_connected", "on_disconnected"))
    with Client(server), Client(server):
        (known,), (unknown,) = log.wait("on_connected", 2)
        peer = known.peer
    log.wait("on_disconnected", 2)
    assert known.peer is peer
    with pytest.raises(npipes.PipeClosedError):
        unknown.peer  # noqa: B018


def test_both_ends_of_a_blocking_connection_know_their_peer(pipe_name):
    code = """
        import os, sys
        import npipes

        with npipes.Listener(sys.argv[1]) as listener:
            print(os.getpid(), flush=True)
            with listener.accept() as client:
                print(client.peer.pid, flush=True)
                sys.stdin.readline()
    """
    with python_process(code, pipe_name) as process:
        pid = int(process.stdout.readline())
        with npipes.connect(pipe_name) as client:
            assert int(process.stdout.readline()) == os.getpid()
            peer = client.peer
            assert isinstance(peer, npipes.Peer) and peer.pid == pid
            if WINDOWS:
                assert (peer.uid, peer.gid) == (None, None) and (peer.sid is None or peer.sid.startswith("S-1-"))
            else:
                assert peer == npipes.Peer((pid, os.getuid(), os.getgid(), None, peer.user))
            process.stdin.write("\n")
            process.stdin.flush()
            with pytest.raises(npipes.ConnectionClosed):
                client.recv_bytes(timeout=TIMEOUT)
        with pytest.raises(npipes.PipeClosedError):
            client.peer  # noqa: B018


def test_the_ends_of_a_pair_know_each_other():
    a, b = npipes.Pipe()
    with a, b:
        assert a.peer.pid == b.peer.pid == os.getpid()
    a, b = npipes.Pipe(duplex=False)
    with a, b:
        assert {a.peer.pid, b.peer.pid} <= {None, os.getpid()}


@root_only
def test_a_listener_for_everyone_knows_who_came(public_path):
    with npipes.Listener(public_path, access="everyone") as listener:
        came = Outcome(listener.accept, timeout=TIMEOUT)
        who = in_thread(as_nobody, public_path)
        with came.get() as client:
            assert (client.peer.uid, client.peer.gid) == (65534, 65534)
            client.send_bytes(client.recv_bytes(timeout=TIMEOUT))
        finish(who)


def test_a_client_of_the_same_user_is_let_in(pipe_name):
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as server:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from multiprocessing.connection import Client\n"
                "c = Client(sys.argv[1]); c.send_bytes(b'x'); print(c.recv_bytes())",
                server.address,
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
    assert done.stdout == "b'x'\n", done.stderr
