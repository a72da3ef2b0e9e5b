"""A child of fork neither serves nor keeps its parent's clients; its objects say so."""

import subprocess
import sys
import textwrap

import pytest
from support import child_environment, linux_only, run_python

pytestmark = linux_only

# Programs that fork run apart from pytest.  parent() and child() are filled in.
PROGRAM = """
    import os, sys, threading, warnings
    from multiprocessing.connection import Client
    import npipes

    warnings.simplefilter("ignore")     # 3.12 and later warn of every fork beside threads

    name, free = sys.argv[1], sys.argv[2] == "True"
    conns, connected = [], threading.Event()
    threads = []

    def on_connected(conn):
        conns.append(conn)
        connected.set()

    server = npipes.Server(name, free_threading_events=free, on_connected=on_connected,
                           on_message=lambda conn, data, cookie: conn.write(data))
    server.start()
    if not free:
        threads.append(threading.Thread(target=server.run))
        threads[0].start()
    client = Client(server.address)
    client.send_bytes(b"before")
    assert client.recv_bytes() == b"before"
    assert connected.wait(10)
    conn = conns[0]

    def raises(error, function, *args):
        try:
            function(*args)
        except error as e:
            return str(e)
        raise AssertionError(f"{{function}} did not raise {{error}}")

    def fork():
        pid = os.fork()
        if pid:
            return pid
        try:
            child()
        except BaseException as error:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def wait(pid):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def child():
{child}

{parent}

    server.stop()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    print("done")
"""


def program(child, parent="wait(fork())"):
    def indent(text, spaces):
        return textwrap.indent(textwrap.dedent(text).strip("\n"), " " * spaces)

    return PROGRAM.format(child=indent(child, 8), parent=indent(parent, 4))


def run(free, pipe_name, child, parent="wait(fork())"):
    assert run_python(program(child, parent), pipe_name, free) == "done\n"


def test_the_objects_of_a_child_are_dead_and_say_so(pipe_name, free):
    run(
        free,
        pipe_name,
        """
        assert not server.is_running
        assert not conn.is_connected and not conn.is_opening
        assert conn.handle == 0
        assert "parent" in raises(npipes.PipeClosedError, conn.write, b"x")
        assert "parent" in raises(RuntimeError, server.run)
        assert "parent" in raises(RuntimeError, server.dispatch)
        assert "parent" in raises(RuntimeError, server.fileno)
        raises(OSError, lambda: conn.peer)
        assert server.broadcast(b"x") == 0
        assert server.stats.connections == 0
        assert conn in server.connections
        conn.close()
        server.quit()
        server.stop()
        assert repr(server) and repr(conn)
    """,
        """
        wait(fork())
        client.send_bytes(b"after")
        assert client.recv_bytes() == b"after"
        assert server.is_running and conn.is_connected
    """,
    )


def test_a_child_that_exits_normally_leaves_the_parent_alone(pipe_name, free):
    """With every destructor and exit handler run."""
    run(
        free,
        pipe_name,
        """
        global server, conn, conns
        import gc
        del server, conn, conns
        gc.collect()
    """,
        """
        pid = os.fork()
        if not pid:
            try:
                child()
            finally:
                threads.clear()
            sys.exit(0)
        wait(pid)
        assert os.path.exists(server.address)
        client.send_bytes(b"after")
        assert client.recv_bytes() == b"after"
        second = Client(server.address)
        second.send_bytes(b"second")
        assert second.recv_bytes() == b"second"
    """,
    )


def test_peers_see_the_parents_close_while_a_child_lives(pipe_name, free):
    run(
        free,
        pipe_name,
        "pass",
        """
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(w)
            client.close()
            os.read(r, 1)       # lives until the parent says so
            os._exit(0)
        conn.close()
        assert client.poll(10), "the client does not see the close"
        raises(EOFError, client.recv_bytes)
        second = Client(server.address)
        second.send_bytes(b"x")
        assert second.recv_bytes() == b"x"
        server.stop()
        assert second.poll(10), "the client does not see the stop"
        raises(EOFError, second.recv_bytes)
        assert not os.path.exists(server.address)
        raises(FileNotFoundError, Client, server.address)
        server.start()          # the address is free though the child lives
        server.stop()
        os.write(w, b"x")
        wait(pid)
    """,
    )


def test_the_server_sees_its_clients_leave_while_a_child_lives(pipe_name, free):
    run(
        free,
        pipe_name,
        "pass",
        """
        gone = threading.Event()
        server.on_disconnected = lambda conn: gone.set()
        r, w = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(w)
            client.close()      # its copy of the client's end
            os.read(r, 1)
            os._exit(0)
        client.close()
        assert gone.wait(10)
        assert conn.error is None
        os.write(w, b"x")
        wait(pid)
    """,
    )


def test_a_child_may_serve_under_its_own_name(pipe_name, free):
    run(
        free,
        pipe_name,
        """
        own = npipes.Server(name + "-child", free_threading_events=True,
                            on_message=lambda conn, data, cookie: conn.write(b"child " + data))
        with own, Client(own.address) as c:
            c.send_bytes(b"x")
            assert c.recv_bytes() == b"child x"
            parents = Client(npipes.address(name))
            parents.send_bytes(b"to the parent")
            assert parents.recv_bytes() == b"to the parent"
            parents.close()
        server.name = name + "-again"       # the parent's object starts anew here
        server.free_threading_events = True
        with server, Client(server.address) as c:
            c.send_bytes(b"y")
            assert c.recv_bytes() == b"y"
        raises(FileExistsError, npipes.Server(name).start)
    """,
        """
        wait(fork())
        client.send_bytes(b"after")
        assert client.recv_bytes() == b"after"
    """,
    )


def test_a_handler_may_fork(pipe_name, free):
    run(
        free,
        pipe_name,
        "pass",
        """
        pids = []
        forked = threading.Event()

        def on_message(conn, data, cookie):
            pid = os.fork()
            if not pid:
                try:
                    raises(npipes.PipeClosedError, conn.write, b"from the child")
                    assert not server.is_running
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            pids.append(pid)
            conn.write(b"from the parent")

        server.on_message = on_message
        client.send_bytes(b"x")
        assert client.recv_bytes() == b"from the parent"
        wait(pids[0])
        client.send_bytes(b"y")
        assert client.recv_bytes() == b"from the parent"
        wait(pids[1])
    """,
    )


def test_run_returns_in_a_child_that_a_handler_forked(pipe_name):
    """The child comes back from its handler into an engine that is not its own."""
    code = """
        import os, sys, warnings
        from multiprocessing.connection import Client
        import npipes

        warnings.simplefilter("ignore")
        parent = os.getpid()
        pids = []

        def on_message(conn, data, cookie):
            pids.append(os.fork())
            if pids[0]:
                conn.write(data)
                conn.server.quit()

        with npipes.Server(sys.argv[1], on_message=on_message) as server:
            client = Client(server.address)
            client.send_bytes(b"x")
            server.run()
            if os.getpid() != parent:
                assert not server.is_running
                os._exit(7)
            assert client.recv_bytes() == b"x"
            assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 7
        print("done")
    """
    assert run_python(code, pipe_name) == "done\n"


def test_forks_beside_a_busy_server_lose_nothing(pipe_name, free):
    run(
        free,
        pipe_name,
        """
        raises(npipes.PipeClosedError, conn.write, b"x")
        server.stop()
    """,
        """
        stop = threading.Event()
        counts = [0, 0]

        def busy(i):
            with Client(server.address) as c:
                while not stop.is_set():
                    c.send_bytes(b"%d" % counts[i] * 100)
                    assert c.recv_bytes() == b"%d" % counts[i] * 100
                    counts[i] += 1

        workers = [threading.Thread(target=busy, args=(i,)) for i in range(2)]
        for worker in workers:
            worker.start()
        for _ in range(30):
            wait(fork())
        stop.set()
        for worker in workers:
            worker.join(10)
            assert not worker.is_alive()
        assert min(counts) > 0
    """,
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_are_clients(pipe_name, free, method, tmp_path):
    script = tmp_path / "program.py"
    script.write_text("""
import multiprocessing, sys, threading, warnings
from multiprocessing.connection import Client

warnings.simplefilter("ignore")


def work(address, number):
    with Client(address) as client:
        client.send(number)
        assert client.recv() == number


if __name__ == "__main__":
    import npipes

    name, free, method = sys.argv[1], sys.argv[2] == "True", sys.argv[3]
    context = multiprocessing.get_context(method)
    with npipes.Server(name, free_threading_events=free,
                       on_message=lambda conn, data, cookie: conn.write(data)) as server:
        thread = threading.Thread(target=server.run)
        thread.start()
        children = [context.Process(target=work, args=(server.address, n)) for n in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(20)
            assert child.exitcode == 0
        server.quit()
        thread.join(10)
    print("done")
""")
    done = subprocess.run(
        [sys.executable, str(script), pipe_name, str(free), method],
        timeout=60,
        env=child_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_daemon_that_forks_after_start_says_what_is_wrong(pipe_name):
    """The usual mistake: start, then detach.  The child's run() is not silent."""
    code = """
        import os, sys, warnings
        import npipes

        warnings.simplefilter("ignore")
        server = npipes.Server(sys.argv[1])
        server.start()
        if os.fork():
            os.wait()
        else:
            try:
                server.run()
            except RuntimeError as error:
                print(error, flush=True)
            os._exit(0)
    """
    assert "belongs to the parent process" in run_python(code, pipe_name)


def test_programs_that_are_started_inherit_no_descriptor(pipe_name):
    """A subprocess that outlives its parent's server keeps no client waiting."""
    code = """
        import subprocess, sys
        from multiprocessing.connection import Client
        import npipes

        server = npipes.Server(sys.argv[1], free_threading_events=True)
        server.start()
        client = Client(server.address)
        while not server.connections:
            pass
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
        server.stop()
        assert client.poll(10)
        try:
            client.recv_bytes()
        except EOFError:
            print("done")
        child.communicate()
    """
    assert run_python(code, pipe_name) == "done\n"


@pytest.mark.parametrize("when", ["before", "after_in_child", "after_in_parent"])
def test_garbage_may_be_collected_while_a_process_forks(pipe_name, when):
    """Whatever a program has called around a fork, like many modules of the standard library, may be where the
    collector comes to a pipe, a listener or a server."""
    run_python(
        """
        import gc, os, sys, warnings
        name, when = sys.argv[1:]
        warnings.simplefilter("ignore")     # 3.12 and later warn of every fork beside threads
        os.register_at_fork(**{when: gc.collect})   # ahead of npipes' own, if it has any

        import npipes

        def drop():
            server = npipes.Server(name)
            server.start()
            garbage = [*npipes.Pipe(), npipes.connect(name), npipes.Listener(name + "-other"), server]
            garbage.append(garbage)

        gc.disable()
        for _ in range(2):
            drop()
            pid = os.fork()
            if pid == 0:
                gc.collect()
                os._exit(0)
            gc.collect()
            assert os.waitpid(pid, 0)[1] == 0
    """,
        pipe_name,
        when,
    )
