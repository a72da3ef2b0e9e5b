"""Linux: who has a socket file, and who may remove it."""

import contextlib
import os
import socket
import threading

import pytest
from support import (
    TIMEOUT,
    Client,
    echo,
    linux_only,
    python_process,
)

import npipes


@pytest.fixture
def path(runtime_directory, pipe_name):
    return f"{runtime_directory}/{pipe_name}"


@linux_only
def test_a_socket_file_that_a_crash_left_is_replaced(pipe_name, path):
    code = """
        import os, sys
        import npipes

        server = npipes.Server(sys.argv[1])
        server.start()
        print("started", flush=True)
        sys.stdin.readline()
        os._exit(1)
    """
    with python_process(code, pipe_name) as process:
        assert process.stdout.readline() == "started\n"
        with pytest.raises(FileExistsError):
            npipes.Server(pipe_name).start()
        process.kill()
        process.wait(TIMEOUT)
    before = os.stat(path)
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as server:
        assert os.stat(path).st_ino != before.st_ino or os.stat(path).st_mtime != before.st_mtime
        with Client(server) as client:
            assert client.request(b"x") == b"x"
    assert not os.path.exists(path)


@linux_only
@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link", "fifo"])
def test_a_file_that_is_no_socket_is_never_touched(pipe_name, path, kind, tmp_path):
    if kind == "file":
        with open(path, "w") as f:
            f.write("precious")
    elif kind == "directory":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        target = tmp_path / "target"
        if kind == "link":
            target.write_text("precious")
        os.symlink(target, path)
    before = os.lstat(path)
    with pytest.raises(FileExistsError) as info:
        npipes.Server(pipe_name).start()
    assert info.value.filename == path
    assert os.lstat(path) == before
    os.rmdir(path) if kind == "directory" else os.unlink(path)


@linux_only
@pytest.mark.parametrize("listening", [True, False])
def test_the_live_socket_of_another_program_is_never_touched(pipe_name, path, listening):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(path)
        if listening:
            other.listen()
        for _ in range(2):
            with pytest.raises(FileExistsError):
                npipes.Server(pipe_name).start()
        if listening:
            other.setblocking(False)
            with pytest.raises(BlockingIOError):  # and was not even called
                other.accept()
    with npipes.Server(pipe_name):  # now it is stale
        pass


@linux_only
def test_stop_removes_only_the_file_that_this_server_made(pipe_name, path):
    with npipes.Server(pipe_name):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            inode = os.stat(path).st_ino
    assert os.stat(path).st_ino == inode
    os.unlink(path)
    with npipes.Server(pipe_name):
        os.unlink(path)
    assert not os.path.exists(path)


@linux_only
def test_a_server_whose_file_was_replaced_does_not_remove_its_successors(pipe_name, path):
    first = npipes.Server(pipe_name)
    first.start()
    os.unlink(path)
    with npipes.Server(pipe_name, free_threading_events=True, on_message=echo) as second:
        first.stop()
        with Client(second) as client:
            assert client.request(b"x") == b"x"


@linux_only
def test_of_many_processes_that_start_at_once_one_gets_the_name(pipe_name):
    code = """
        import sys
        import npipes

        server = npipes.Server(sys.argv[1])
        sys.stdin.readline()
        try:
            server.start()
            print("started", flush=True)
            sys.stdin.readline()
        except FileExistsError:
            print("exists", flush=True)
    """
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(python_process(code, pipe_name)) for _ in range(5)]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.stdout.readline().strip() for process in processes]
    assert sorted(said) == ["exists"] * 4 + ["started"]


@linux_only
def test_of_many_threads_that_start_at_once_one_gets_the_name(pipe_name):
    servers = [npipes.Server(pipe_name) for _ in range(8)]
    results = []

    def start(server):
        try:
            server.start()
            results.append("started")
        except FileExistsError:
            results.append("exists")

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(results) == ["exists"] * 7 + ["started"]
    for server in servers:
        server.stop()
