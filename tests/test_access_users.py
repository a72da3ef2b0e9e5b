"""Real accounts of other users and groups: who is kept out, and who is let in.

The accounts are made for these tests, which takes root, and removed after them.
"""

import contextlib
import os
import shutil
import stat
import subprocess
import tempfile

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Log,
    Outcome,
    child_environment,
    echo,
    linux_only,
    python_command,
    python_process,
)

import npipes

pytestmark = linux_only

needs_accounts = pytest.mark.skipif(
    WINDOWS or os.geteuid() != 0 or not shutil.which("useradd"),
    reason="only root can make accounts",
)


def run(*command):
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)


class Account:
    def __init__(self, name):
        import grp
        import pwd

        entry = pwd.getpwnam(name)
        self.name, self.uid, self.gid = name, entry.pw_uid, entry.pw_gid
        self.groups = [g.gr_gid for g in grp.getgrall() if name in g.gr_mem] + [self.gid]


@pytest.fixture(scope="module")
def group():
    """A group that nobody is in yet: its name."""
    name = f"npg{os.getpid()}"
    run("groupadd", name)
    yield name
    run("groupdel", name)


@contextlib.contextmanager
def account(name, *groups):
    more = ["--groups", ",".join(groups)] if groups else []
    run("useradd", "--no-create-home", "--no-log-init", "--shell", "/bin/sh", *more, name)
    try:
        yield Account(name)
    finally:
        run("userdel", name)


@pytest.fixture(scope="module")
def stranger():
    with account(f"npu{os.getpid()}") as made:
        yield made


@pytest.fixture(scope="module")
def member(group):
    with account(f"npm{os.getpid()}", group) as made:
        yield made


@pytest.fixture
def path():
    """A path that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        yield f"{directory}/s"


BECOME = """
    import os, sys
    uid, gid, groups = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    address = sys.argv[1]
"""
DROP = """
    os.setgroups([int(g) for g in groups.split(",")])
    os.setgid(gid)
    os.setuid(uid)
"""
CLIENT = (
    BECOME
    + """
    from multiprocessing.connection import Client
"""
    + DROP
    + """
    try:
        with Client(address, "AF_UNIX") as client:
            client.send_bytes(b"hello")
            print(client.recv_bytes().decode(), os.getpid())
    except (OSError, EOFError) as error:
        print(type(error).__name__)
"""
)


def arguments(address, who):
    return address, who.uid, who.gid, ",".join(map(str, who.groups))


def what_sees(who, address):
    """What a client of this user gets to see."""
    done = subprocess.run(
        python_command(CLIENT, *arguments(address, who)), env=child_environment(), capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


REFUSED = ("EOFError", "ConnectionResetError", "BrokenPipeError", "PermissionError")


# ---- the second user -----------------------------------------------------


@needs_accounts
def test_another_user_is_kept_out_by_default(serve, path, stranger):
    log = Log()
    serve(path, on_message=echo, **log.handlers("on_connected", "on_error"))
    assert what_sees(stranger, path) == ["PermissionError"]
    assert not log.entries
    os.chmod(path, 0o666)  # past the mode there is still the uid
    (result,) = what_sees(stranger, path)
    assert result in REFUSED
    ((conn, error),) = log.wait("on_error")
    assert conn is None and type(error) is npipes.AccessDeniedError
    assert f"uid {stranger.uid} was refused" in str(error)


@needs_accounts
@pytest.mark.parametrize("access", ["everyone", 0o666, 0o606])
def test_another_user_is_let_in_where_access_says_so(serve, path, stranger, access):
    log = Log()
    serve(path, access=access, on_message=echo, on_connected=lambda conn: log.add("peer", conn.peer))
    said, pid = what_sees(stranger, path)
    assert said == "hello"
    ((peer,),) = log.of("peer")
    assert peer == (int(pid), stranger.uid, stranger.gid, None, stranger.name)


@needs_accounts
def test_a_listener_keeps_another_user_out_and_lets_him_in(path, stranger):
    with npipes.Listener(path) as listener:
        accepted = Outcome(listener.accept, timeout=TIMEOUT)
        os.chmod(path, 0o666)
        assert what_sees(stranger, path)[0] in REFUSED
        with npipes.connect(path) as client, accepted.get() as server:
            client.send_bytes(b"x")
            assert server.recv_bytes() == b"x"
    with npipes.Listener(path, access="everyone") as listener:
        accepted = Outcome(listener.accept, timeout=TIMEOUT)
        process = Outcome(what_sees, stranger, path)
        with accepted.get() as server:
            server.send_bytes(server.recv_bytes(timeout=TIMEOUT))
        assert process.get()[0] == "hello"


# ---- groups --------------------------------------------------------------


@needs_accounts
def test_a_group_is_let_in_and_others_are_not(serve, path, group, member, stranger):
    log = Log()
    serve(path, access=f"group:{group}", on_message=echo, on_connected=lambda conn: log.add("peer", conn.peer))
    import grp

    status = os.stat(path)
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, grp.getgrnam(group).gr_gid)
    assert status.st_uid == os.geteuid()
    assert what_sees(member, path)[0] == "hello"
    assert what_sees(stranger, path) == ["PermissionError"]
    assert npipes.call(path, b"mine") == b"mine"
    peers = [peer for (peer,) in log.of("peer")]
    assert [peer.uid for peer in peers] == [member.uid, os.getuid()]


@needs_accounts
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_a_group_may_be_a_number_and_the_umask_is_none_of_it(path, group, member, umask):
    import grp

    old = os.umask(umask)
    try:
        with npipes.Listener(path, access=f"group:{grp.getgrnam(group).gr_gid}") as listener:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            process = Outcome(what_sees, member, path)
            with listener.accept(timeout=TIMEOUT) as server:
                server.send_bytes(server.recv_bytes(timeout=TIMEOUT))
            assert process.get()[0] == "hello"
    finally:
        os.umask(old)


@needs_accounts
def test_a_user_gives_a_socket_to_no_group_of_others(path, group, stranger, member):
    code = (
        BECOME
        + """
    import npipes
"""
        + DROP
        + """
    try:
        with npipes.Server(address, access="group:" + sys.argv[5]) as server:
            print("started", oct(os.stat(address).st_mode & 0o777))
    except PermissionError as error:
        print(type(error).__name__, error.errno, error)
    print(os.path.exists(address))
    """
    )
    os.chmod(os.path.dirname(path), 0o777)
    for who, expected in ((member, ["started", "0o660", "False"]), (stranger, None)):
        done = subprocess.run(
            python_command(code, *arguments(path, who), group),
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        if "No module named" in done.stderr or "Permission denied" in done.stderr:
            pytest.skip("another user can't read this installation")
        assert done.returncode == 0, done.stderr
        if expected:
            assert done.stdout.split() == expected
        else:
            assert "PermissionError 1" in done.stdout and done.stdout.endswith("False\n")
            assert "not in the group that access names" in done.stdout


def test_a_group_that_can_not_be_is_refused_before_anything_is_made(pipe_name, path, monkeypatch):
    for value in ("group:", "group", "groups:x", "Group:x", "group:a\0b"):
        with pytest.raises(ValueError, match="'group:NAME'"):
            npipes.Server(path, access=value)
    directory = os.path.dirname(path) + "/leaves"
    monkeypatch.setenv("NPIPES_DIR", directory)
    for name in (pipe_name, "@" + pipe_name):
        server = npipes.Server(name, access="group:0")
        with pytest.raises(ValueError, match="access for a group needs a path"):
            server.start()
        with pytest.raises(ValueError, match="access for a group needs a path"):
            npipes.Listener(name, access="group:0")
    assert not os.path.exists(directory)
    for unknown in ("group:npipes-has-no-such-group", "group:99999999999999999999", "group:-1"):
        server = npipes.Server(path, access=unknown)
        assert server.access == unknown
        with pytest.raises(ValueError, match="there is no such group"):
            server.start()
    assert not os.path.exists(path)


def test_a_users_own_group_takes_no_root(serve, path):
    serve(path, access=f"group:{os.getgid()}", on_message=echo)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    assert npipes.call(path, b"x") == b"x"


# ---- the other side ------------------------------------------------------

SERVER = (
    BECOME
    + """
    import npipes
"""
    + DROP
    + """
    server = npipes.Server(address, access="everyone", free_threading_events=True)
    server.on_message = lambda conn, data, cookie: conn.write(data)
    with server:
        print("ready", os.getpid(), flush=True)
        sys.stdin.readline()
"""
)


@needs_accounts
def test_a_client_knows_whose_the_server_is(path, stranger, manage):
    os.chmod(os.path.dirname(path), 0o777)
    with python_process(SERVER, *arguments(path, stranger)) as process:
        ready = process.stdout.readline().split()
        if not ready:
            pytest.skip("another user can't read this installation")
        log = Log()
        manager = manage(on_connected=lambda conn: log.add("peer", conn.peer))
        manager.connect(path)
        ((peer,),) = log.wait("peer")
        assert peer == (int(ready[1]), stranger.uid, stranger.gid, None, stranger.name)


IN_TMP = (
    BECOME
    + """
    import npipes
    os.environ.pop("NPIPES_DIR", None)
    os.environ.pop("XDG_RUNTIME_DIR", None)
"""
    + DROP
    + """
    try:
        print(npipes.call("demo", b"hello").decode())
    except npipes.PipeError as error:
        print(type(error).__name__, error)
"""
)


@needs_accounts
def test_a_directory_in_tmp_that_another_user_made_first_fools_no_client(stranger, member):
    directory = f"/tmp/npipes-{member.uid}"
    os.mkdir(directory)
    try:
        os.chmod(directory, 0o777)
        with python_process(SERVER, *arguments(f"{directory}/demo", stranger)) as process:
            if not process.stdout.readline():
                pytest.skip("another user can't read this installation")
            done = subprocess.run(
                python_command(IN_TMP, *arguments("", member)),
                env=child_environment(),
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
            assert done.returncode == 0, done.stderr
            assert "AccessDeniedError" in done.stdout
            assert f"the server is one of uid {stranger.uid}" in done.stdout
    finally:
        shutil.rmtree(directory)
