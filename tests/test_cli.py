"""The command line: the demo shows what it promises and fails when it must, serve serves and ends."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from support import (
    TIMEOUT,
    WINDOWS,
    Client,
    child_environment,
    eventually,
    linux_only,
    receive_exactly,
    raw_client,
    run_module,
    windows_only,
)

import npipes
from npipes import cli, demo


def npipes_command(*args):
    return [sys.executable, "-m", "npipes", *args]


def run_npipes(directory, *args):
    """A command of a process of its own, run to its end."""
    return run_module(directory, "npipes", *args)


# ---- demo ----------------------------------------------------------------


def test_demo_shows_every_event_and_the_rate(tmp_path):
    done = run_npipes(tmp_path, "demo")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"npipes {npipes.__version__} on Python ")
    assert lines[-1] == "All of it went as it must."
    rate = re.fullmatch(r"echo rate: ([\d,]+) round trips per second \(64 bytes, .*\)", lines[-2])
    assert rate and int(rate[1].replace(",", "")) > 0

    # Server and client print on their own: the order holds within each.
    server = "\n".join(line for line in lines if line.startswith("server  "))
    client = "\n".join(line for line in lines if line.startswith("client  "))
    in_order(
        server,
        r"ready on \S+npipes-demo-",
        r"connection 1: connected, process \d+",
        r"connection 1: message 'hello'",
        r"connection 1: the answer of 5 bytes is handed over",
        r"connection 1: message of 8,388,608 bytes, checksum [0-9a-f]{8}\n",
        r"connection 1: the answer of 8,388,608 bytes is handed over",
        r"connection 3: connected, process \d+",
        r"message 'tell everyone': broadcast to 3 connections",
        r"connection \d: the broadcast is handed over",
        r"connection \d: disconnected, orderly",
    )
    in_order(
        client,
        r"process \d+ connects with multiprocessing.connection.Client",
        r"the answer is 'hello'",
        r"sends 8,388,608 bytes, checksum [0-9a-f]{8}\n",
        r"the answer has 8,388,608 bytes, checksum [0-9a-f]{8}\n",
        r"the broadcast came on all 3 connections",
        r"has closed its connections",
    )
    assert server.count("disconnected, orderly") == 3
    assert len(set(re.findall("checksum ([0-9a-f]+)", done.stdout))) == 1


def in_order(text, *patterns):
    at = 0
    for pattern in patterns:
        found = re.compile(pattern).search(text, at)
        assert found, f"{pattern!r} is not in what follows\n{text[:at]}\n-----\n{text[at:]}"
        at = found.start() + 1


def test_demo_without_the_rate(tmp_path):
    done = run_npipes(tmp_path, "demo", "--no-rate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "echo rate" not in done.stdout
    assert done.stdout.endswith("All of it went as it must.\n")


CLIENTS_THAT_FAIL = {
    "that dies": ("import sys; sys.exit(3)", "ended with exit code 3"),
    "that says nothing": (
        "import sys; from multiprocessing.connection import Client; Client(sys.argv[2]).close()",
        "the server saw {'connected': 1, 'disconnected': 1} instead of",
    ),
    "that never ends": ("import time; time.sleep(100)", "not done after 2 seconds"),
}


@pytest.mark.parametrize("kind", CLIENTS_THAT_FAIL)
def test_demo_fails_with_a_client(kind, tmp_path, monkeypatch, capfd):
    program, message = CLIENTS_THAT_FAIL[kind]
    script = tmp_path / "client.py"
    script.write_text(program)
    monkeypatch.setattr(demo, "CLIENT", script)
    monkeypatch.setattr(demo, "TIMEOUT", 2.0 if "never" in kind else TIMEOUT)
    assert cli.main(["demo"]) == 1
    out, err = capfd.readouterr()
    assert message in err
    assert err.startswith("npipes demo: failed: ")
    assert "All of it" not in out


def test_demo_fails_where_the_echo_is_not_what_was_sent(monkeypatch, capfd):
    monkeypatch.setattr(demo, "checksum", lambda message: None)
    assert cli.main(["demo", "--no-rate"]) == 1
    assert "the large message did not come as it was sent" in capfd.readouterr().err


# ---- serve ---------------------------------------------------------------


class Interrupter:
    """Talks to a server that this process's main thread serves, then interrupts that thread."""

    def __init__(self, name, talk):
        self._name, self._talk = name, talk
        self.result = None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            with suppress(OSError):
                assert eventually(self._is_up)
                self.result = self._talk()
        finally:
            if WINDOWS:
                signal.raise_signal(signal.SIGINT)
            else:
                os.kill(os.getpid(), signal.SIGINT)

    def _is_up(self):
        try:
            with Client(npipes.address(self._name)):
                return True
        except OSError:
            return False

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._thread.join(TIMEOUT)


def test_serve_echoes_until_ctrl_c(pipe_name, capfd):
    def talk():
        with Client(npipes.address(pipe_name)) as client:
            return [client.request(data) for data in (b"hello", b"x" * 100_000)]

    before = signal.getsignal(signal.SIGINT)
    with Interrupter(pipe_name, talk) as client:
        assert cli.main(["serve", pipe_name, "--echo"]) == 0
    assert client.result == [b"hello", b"x" * 100_000]
    assert signal.getsignal(signal.SIGINT) is before
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"echoes on {npipes.address(pipe_name)} until Ctrl-C"
    assert f"process {os.getpid()}" in lines[1]
    assert "connection 2: disconnected" in lines
    assert lines[-1] == ("2 connections, 2 messages (100005 bytes) in, 2 (100005 bytes) out, 0 errors")


def test_serve_is_quiet_where_it_is_told(pipe_name, capfd):
    def talk():
        with Client(npipes.address(pipe_name)) as client:
            return client.request(b"x")

    with Interrupter(pipe_name, talk) as client:
        assert cli.main(["serve", pipe_name, "--echo", "--quiet", "--threads", "3"]) == 0
    assert client.result == b"x"
    assert len(capfd.readouterr().out.splitlines()) == 2


@linux_only
def test_serve_a_byte_stream_to_a_group(pipe_name, capfd):
    def talk():
        with raw_client(npipes.address(pipe_name)) as client:
            client.sendall(b"no frame")
            mode = os.stat(npipes.address(pipe_name)).st_mode & 0o777
            return receive_exactly(client, 8), mode

    command = ["serve", pipe_name, "--echo", "--byte", "--access", "660"]
    with Interrupter(pipe_name, talk) as client:
        assert cli.main(command) == 0
    assert client.result == (b"no frame", 0o660)


@linux_only
def test_serve_says_what_went_wrong_with_a_connection(pipe_name, capfd):
    def talk():
        with raw_client(npipes.address(pipe_name)) as client:
            client.sendall(b"\x80\0\0\0")  # a length below -1
            return client.recv(1)

    with Interrupter(pipe_name, talk) as client:
        assert cli.main(["serve", pipe_name, "--echo"]) == 0
    assert client.result == b""
    out = capfd.readouterr().out
    assert re.search(r"connection 2: .* a message can't have the length", out)
    assert out.endswith(" 1 errors\n")


@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_as_a_process_ends_with_its_counts(pipe_name, tmp_path, number):
    process = subprocess.Popen(
        npipes_command("serve", pipe_name, "--echo", "--quiet"),
        cwd=tmp_path,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.fullmatch("echoes on (.*) until Ctrl-C\n", process.stdout.readline())[1]
        with Client(address) as client:
            assert client.request(b"hello") == b"hello"
            process.send_signal(number)
            assert client.has_ended()
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out == "1 connections, 1 messages (5 bytes) in, 1 (5 bytes) out, 0 errors\n"
    assert not os.path.exists(address)


def test_serve_says_that_it_needs_echo(pipe_name, capfd):
    with pytest.raises(SystemExit) as info:
        cli.main(["serve", pipe_name])
    assert info.value.code == 2
    assert "serve needs --echo" in capfd.readouterr().err


def test_serve_says_that_the_name_is_taken(serve, pipe_name, capfd):
    if WINDOWS and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version"):
        pytest.skip("Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE")
    serve()
    assert cli.main(["serve", pipe_name, "--echo"]) == 1
    assert capfd.readouterr().err.startswith("npipes serve: ")


@pytest.mark.parametrize("args", [[""], ["x", "--threads", "0"], ["x", "--threads", "many"]])
def test_serve_refuses_what_can_not_be(args, capfd):
    with pytest.raises(SystemExit) as info:
        cli.main(["serve", *args, "--echo"])
    assert info.value.code == 2
    assert "error: " in capfd.readouterr().err


@windows_only
def test_serve_takes_sddl(pipe_name, capfd):
    with pytest.raises(SystemExit):
        cli.main(["serve", pipe_name, "--echo", "--access", "not SDDL"])
    assert "access" in capfd.readouterr().err


# ---- the rest ------------------------------------------------------------


def test_version_is_the_packages(capfd):
    with pytest.raises(SystemExit) as info:
        cli.main(["--version"])
    assert info.value.code == 0
    assert capfd.readouterr().out == f"npipes {npipes.__version__}\n"


def test_a_command_is_needed(capfd):
    with pytest.raises(SystemExit) as info:
        cli.main([])
    assert info.value.code == 2
