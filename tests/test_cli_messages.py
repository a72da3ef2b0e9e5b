"""npipes send, listen and serve --exec, --broadcast: messages from and to the command line."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from support import TIMEOUT, child_environment, echo, eventually, linux_only

import npipes
from npipes import cli
from npipes.cli import processes


@contextmanager
def command(*args, **options):
    """A command in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "npipes", *args],
        cwd=options.pop("cwd", None),
        env=child_environment(**options.pop("env", {})),
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def received(serve):
    """Messages that the server of pipe_name got."""
    messages = []
    serve(on_message=lambda conn, data, cookie: messages.append(data), max_message_size=1 << 28)
    return messages


@pytest.fixture
def stdin(tmp_path):
    """Gives bytes to this process as its standard input."""
    old = os.dup(0)

    def give(data):
        file = tmp_path / "stdin"
        file.write_bytes(data)
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        os.dup2(descriptor, 0)
        os.close(descriptor)

    yield give
    os.dup2(old, 0)
    os.close(old)


# ---- send ----------------------------------------------------------------


def test_send_sends_its_arguments(received, pipe_name, capfd):
    assert cli.main(["send", pipe_name, "one", "two €"]) == 0
    assert eventually(lambda: received == [b"one", "two €".encode()])
    assert capfd.readouterr() == ("", "")


def test_send_prints_the_replies_it_waits_for(serve, pipe_name, capfd):
    serve(on_message=lambda conn, data, cookie: conn.write(data.upper()))
    assert cli.main(["send", pipe_name, "one", "two", "--wait"]) == 0
    assert capfd.readouterr() == ("ONE\nTWO\n", "")


@pytest.mark.parametrize(
    ("form", "printed"),
    [
        ("text", "a\\xff\n"),
        ("hex", "61ff\n"),
        ("base64", "Yf8=\n"),
        ("json", '{"base64": "Yf8="}\n'),
    ],
)
def test_replies_are_printed_as(form, printed, serve, pipe_name, capfd):
    serve(on_message=lambda conn, data, cookie: conn.write(b"a\xff"))
    assert cli.main(["send", pipe_name, "x", "--wait", "--format", form]) == 0
    assert capfd.readouterr().out == printed


def test_send_a_file_whole_and_in_chunks(received, pipe_name, tmp_path):
    file = tmp_path / "file"
    data = os.urandom(3_000_000)
    file.write_bytes(data)
    assert cli.main(["send", pipe_name, "--file", str(file)]) == 0
    assert eventually(lambda: received == [data])
    received.clear()
    assert cli.main(["send", pipe_name, "--file", str(file), "--chunk", "1M"]) == 0
    assert eventually(lambda: b"".join(received) == data)
    assert [len(m) for m in received] == [1 << 20, 1 << 20, 3_000_000 - (2 << 20)]


def test_send_standard_input_whole_and_by_lines(received, pipe_name, stdin):
    stdin(b"one\r\ntwo\nthree")
    assert cli.main(["send", pipe_name]) == 0
    assert eventually(lambda: received == [b"one\r\ntwo\nthree"])
    received.clear()
    stdin(b"one\r\ntwo\nthree")
    assert cli.main(["send", pipe_name, "--lines"]) == 0
    assert eventually(lambda: received == [b"one", b"two", b"three"])


def test_send_says_that_there_is_no_such_pipe(pipe_name, capfd):
    assert cli.main(["send", pipe_name, "x", "--timeout", "0"]) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("npipes send: ") and pipe_name in err


def test_send_says_that_no_reply_came(received, pipe_name, capfd):
    assert cli.main(["send", pipe_name, "x", "--wait", "--timeout", "0.2"]) == 1
    assert capfd.readouterr().err == f"npipes send: no reply from {pipe_name} within 0.2 seconds\n"


def test_send_says_that_the_server_closed(serve, pipe_name, capfd):
    serve(on_message=lambda conn, data, cookie: conn.close())
    assert cli.main(["send", pipe_name, "x", "--wait"]) == 1
    assert capfd.readouterr().err == f"npipes send: {pipe_name} has closed the connection\n"


def test_send_refuses_an_empty_message_and_a_file_that_is_not(received, pipe_name, tmp_path, capfd):
    assert cli.main(["send", pipe_name, ""]) == 2
    assert cli.main(["send", pipe_name, "--file", str(tmp_path / "none")]) == 1
    err = capfd.readouterr().err
    assert "an empty message" in err and "none" in err


# ---- authkey -------------------------------------------------------------


def test_a_key_comes_from_a_file_or_the_environment(serve, pipe_name, tmp_path, monkeypatch, capfd):
    serve(on_message=echo, authkey=b"secret")
    file = tmp_path / "key"
    file.write_bytes(b"secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("PIPE_KEY", "secret")
    send = ["send", pipe_name, "hi", "--wait", "--timeout", "10"]
    assert cli.main([*send, "--authkey-file", str(file)]) == 0
    assert cli.main([*send, "--authkey-env", "PIPE_KEY"]) == 0
    assert capfd.readouterr() == ("hi\nhi\n", "")
    monkeypatch.setenv("PIPE_KEY", "wrong-one")
    assert cli.main([*send, "--authkey-env", "PIPE_KEY"]) == 1
    assert "wrong-one" not in capfd.readouterr().err


def test_what_is_no_key_is_refused(pipe_name, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("NO_KEY", raising=False)
    assert cli.main(["send", pipe_name, "x", "--authkey-env", "NO_KEY"]) == 2
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n")
    empty.chmod(0o600)
    assert cli.main(["send", pipe_name, "x", "--authkey-file", str(empty)]) == 2
    assert capfd.readouterr().err.count(" no key in it") == 2


@linux_only
def test_a_key_that_others_may_read_is_refused(pipe_name, tmp_path, capfd):
    file = tmp_path / "key"
    file.write_bytes(b"secret")
    file.chmod(0o644)
    assert cli.main(["send", pipe_name, "x", "--authkey-file", str(file)]) == 1
    err = capfd.readouterr().err
    assert "others may read" in err and "secret" not in err


# ---- listen --------------------------------------------------------------


def test_listen_prints_until_the_server_closes(serve, pipe_name, capfd):
    def talk(conn):
        for text in (b"one", b"two"):
            conn.write(text)
        conn.close()

    serve(on_connected=talk)
    assert cli.main(["listen", pipe_name, "--format", "json"]) == 0
    out, err = capfd.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [{"text": "one"}, {"text": "two"}]
    assert err == ""


def test_listen_ends_after_a_count(serve, pipe_name, capfd):
    serve(on_connected=lambda conn: [conn.write(b"%d" % n) for n in range(5)])
    assert cli.main(["listen", pipe_name, "--count", "2"]) == 0
    assert capfd.readouterr().out == "0\n1\n"


def test_listen_ends_after_a_time(serve, pipe_name, capfd):
    serve()
    assert cli.main(["listen", pipe_name, "--for", "0.1"]) == 0
    assert cli.main(["listen", pipe_name, "--for", "0.1", "--count", "1"]) == 1
    assert capfd.readouterr() == ("", "npipes listen: 0 of 1 messages within 0.1 seconds\n")


def test_listen_says_that_there_is_no_such_pipe(pipe_name, capfd):
    assert cli.main(["listen", pipe_name, "--timeout", "0"]) == 1
    assert pipe_name in capfd.readouterr().err


@linux_only
def test_listen_is_interrupted(serve, pipe_name):
    server = serve(on_connected=lambda conn: conn.write(b"hi"))
    with command("listen", server.address) as process:
        assert process.stdout.readline() == b"hi\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (130, b"interrupted\n")


# ---- serve --broadcast ---------------------------------------------------


def test_serve_broadcasts_lines_until_the_end_of_its_input(pipe_name, tmp_path):
    with command("serve", pipe_name, "--broadcast", cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert b"broadcasts on" in process.stdout.readline()
        with npipes.connect(pipe_name) as one, npipes.connect(pipe_name) as two:
            for _ in (one, two):
                assert b": connected" in process.stdout.readline()
            process.stdin.write(b"first\n")
            process.stdin.flush()
            assert [c.recv_bytes(timeout=TIMEOUT) for c in (one, two)] == [b"first"] * 2
            process.stdin.write(b"second\r\nlast")
            process.stdin.close()
            for client in (one, two):
                assert client.recv_bytes(timeout=TIMEOUT) == b"second"
                assert client.recv_bytes(timeout=TIMEOUT) == b"last"
        process.stdin = None
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (0, b"")
    assert b"2 connections" in out


# ---- serve --exec --------------------------------------------------------

UPPER = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)\n"


@pytest.fixture
def run_serve(tmp_path, pipe_name):
    """serve --exec with a Python program, here in this process; what it printed when it was left."""

    @contextmanager
    def run(code):
        script = tmp_path / "script.py"
        script.write_text(code)
        said = []
        work = processes.Processes(f'"{sys.executable}" "{script}"', said.append)
        server = npipes.Server(
            pipe_name,
            free_threading_events=True,
            continuous_read=False,
            on_connected=work.connected,
            on_message=work.message,
            on_drained=work.drained,
            on_disconnected=work.disconnected,
        )
        try:
            with server:
                yield said
        finally:
            work.end()

    return run


def test_each_client_has_a_process(run_serve, pipe_name):
    code = "import os, sys\nfor line in sys.stdin: print(os.getpid(), line.strip(), flush=True)\n"
    with run_serve(code):
        with npipes.connect(pipe_name) as one, npipes.connect(pipe_name) as two:
            answers = [c.call(b"hi", timeout=TIMEOUT).split() for c in (one, two, one)]
    assert [a[1] for a in answers] == [b"hi"] * 3
    assert answers[0][0] == answers[2][0] != answers[1][0]


def test_a_process_gets_all_messages_in_order(run_serve, pipe_name):
    messages = [b"message %d" % n for n in range(500)]
    with run_serve(UPPER), npipes.connect(pipe_name) as client:
        client.send_many(messages)
        answers = [client.recv_bytes(timeout=TIMEOUT) for _ in messages]
    assert answers == [m.upper() for m in messages]


def test_the_end_of_a_process_is_the_end_of_its_connection(run_serve, pipe_name):
    with run_serve("print('bye')\nraise SystemExit(3)") as said:
        with npipes.connect(pipe_name) as client:
            assert client.recv_bytes(timeout=TIMEOUT) == b"bye"
            with pytest.raises((EOFError, OSError)):
                client.recv_bytes(timeout=TIMEOUT)
        assert eventually(lambda: any("exit code 3" in text for text in said))


def test_the_end_of_a_client_is_the_end_of_input(run_serve, pipe_name, tmp_path):
    mark = tmp_path / "ended"
    code = f"import sys, pathlib\nsys.stdin.read()\npathlib.Path({str(mark)!r}).touch()\n"
    with run_serve(code) as said:
        with npipes.connect(pipe_name) as client:
            client.send_bytes(b"hi")
        assert eventually(mark.exists)
        assert eventually(lambda: any("exit code 0" in text for text in said))


def test_a_process_that_does_not_end_is_ended(run_serve, pipe_name, monkeypatch):
    monkeypatch.setattr(processes, "_GRACE", 0.2)
    code = "import time\nprint('up', flush=True)\nwhile True: time.sleep(10)\n"
    with run_serve(code) as said, npipes.connect(pipe_name) as client:
        assert client.recv_bytes(timeout=TIMEOUT) == b"up"
    assert any("exit code" in text for text in said)


def test_a_program_that_is_not_there_is_said(pipe_name):
    said = []
    work = processes.Processes("npipes-there-is-no-such-program", said.append)
    with npipes.Server(pipe_name, free_threading_events=True, on_connected=work.connected):
        with npipes.connect(pipe_name) as client, pytest.raises((EOFError, OSError)):
            client.recv_bytes(timeout=TIMEOUT)
    assert len(said) == 1 and "can't start" in said[0]


@linux_only
def test_serve_exec_as_a_process(pipe_name, tmp_path):
    with command("serve", pipe_name, "--exec", "tr a-z A-Z", cwd=tmp_path) as process:
        assert b"starts processes on" in process.stdout.readline()
        with npipes.connect(pipe_name):
            assert b"connected" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (0, b"")
    assert b"1 connections" in out


def test_what_serve_does_is_one_thing(pipe_name, capfd):
    for args in (["--echo", "--broadcast"], ["--exec", "x", "--byte"]):
        with pytest.raises(SystemExit) as info:
            cli.main(["serve", pipe_name, *args])
        assert info.value.code == 2


@linux_only
def test_serve_does_not_begin_without_its_program(pipe_name, capfd):
    assert cli.main(["serve", pipe_name, "--exec", "npipes-there-is-no-such-program -x"]) == 1
    out, err = capfd.readouterr()
    assert (out, err) == ("", "npipes serve: --exec: there is no program 'npipes-there-is-no-such-program'\n")


def test_a_file_that_is_not_there_is_said_before_the_server_is_waited_for(pipe_name, capfd, tmp_path):
    assert cli.main(["send", pipe_name, "--file", str(tmp_path / "none"), "--timeout", "100"]) == 1
    assert capfd.readouterr().err.startswith(f"npipes send: {tmp_path / 'none'}: ")  # and the system's words


def test_what_failed_is_said_without_the_number_of_the_error(pipe_name, capfd):
    assert cli.main(["send", pipe_name, "hello", "--timeout", "0"]) == 1
    address = npipes.address(pipe_name)
    assert capfd.readouterr().err == f"npipes send: {address}: nobody serves this address\n"
