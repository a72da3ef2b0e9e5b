"""`npipes bridge serve` and `npipes bridge connect`."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from bridge_support import NatsServer, free_port, needs_nats
from support import TIMEOUT, child_environment, echo, linux_only, run_module, run_python, running

needs_nats()

import npipes  # noqa: E402
from npipes import cli  # noqa: E402
from npipes.bridge import running as bridge_running  # noqa: E402
from npipes.cli import bridge as bridge_command  # noqa: E402


class Command:
    """npipes bridge, in a process of its own."""

    def __init__(self, directory, *args):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "npipes", "bridge", *args],
            cwd=directory,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        line = self.process.stdout.readline()
        if "running until" not in line:
            self.process.kill()
            raise AssertionError(line + "".join(self.process.communicate()))
        return self

    def end(self, with_signal):
        self.process.send_signal(with_signal)
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out.splitlines(), err

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@linux_only
def test_the_two_commands_bridge_until_they_are_told_to_end(url, pipe_name, tmp_path):
    far = f"{pipe_name}-far"
    with running(npipes.Server(pipe_name, on_message=echo, free_threading_events=True)):
        with (
            Command(tmp_path, "serve", pipe_name, "--nats", url) as serve,
            Command(tmp_path, "connect", pipe_name, "--pipe", far, "--nats", url, "--quiet") as connect,
        ):
            with npipes.connect(far) as client:
                assert client.call(b"hello", timeout=TIMEOUT) == b"hello"
            code, lines, error = connect.end(signal.SIGINT)
            assert (code, error) == (0, "")
            assert lines == ["1 tunnels, 0 failed, 0 refused, 1 messages in, 1 out"]
            code, lines, error = serve.end(signal.SIGTERM)
            assert (code, error) == (0, "")
            assert lines[-1] == "1 tunnels, 0 failed, 0 refused, 1 messages in, 1 out"
            assert any(f"pid {os.getpid()}" in line for line in lines[:-1])


@linux_only
def test_jetstream_is_an_option_of_both(pipe_name, tmp_path):
    far = f"{pipe_name}-far"
    got = []
    server = npipes.Server(pipe_name, free_threading_events=True)
    server.on_message = lambda conn, data, cookie: (got.append(data), conn.write(b"ok"))
    options = ["--jetstream", "--confirm", "--stream", "orders"]
    with NatsServer("-js", "-sd", str(tmp_path)) as nats, running(server):
        options += ["--nats", nats.url]
        with (
            Command(tmp_path, "serve", pipe_name, "--durable", "one", *options) as serve,
            Command(tmp_path, "connect", pipe_name, "--pipe", far, *options) as connect,
        ):
            with npipes.connect(far) as client:
                for number in range(10):
                    assert client.call(b"%d" % number, timeout=TIMEOUT) == b""
            assert connect.end(signal.SIGINT)[:2] == (0, ["10 messages"])
            code, lines, _ = serve.end(signal.SIGINT)
            assert code == 0
    assert got == [b"%d" % number for number in range(len(got))]


@linux_only
def test_no_nats_server_is_one_line_and_an_exit_code(pipe_name, tmp_path):
    address = f"nats://127.0.0.1:{free_port()}"
    done = run_module(tmp_path, "npipes", "bridge", "serve", pipe_name, "--nats", address, "--timeout", "0.3")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith(f"npipes bridge: no NATS server at {address} within 0.3 seconds")


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["serve", "a b"], "a bridge's name"),
        (["serve", "demo", "--heartbeat", "0"], "heartbeat"),
        (["connect", "demo", "--confirm"], "--jetstream"),
        (["connect", "demo", "--jetstream", "--announce"], "--announce"),
        (["serve", "demo", "--tls-key", "x"], "--tls-cert"),
        (["serve", "demo", "--authkey-file", "missing"], "missing"),
        (["serve", "demo", "--tls-ca", "missing"], ""),
    ],
)
def test_wrong_arguments_are_told(args, text, capsys):
    assert cli.main(["bridge", *args]) == 1
    error = capsys.readouterr().err
    assert error.startswith("npipes bridge: ") and text in error


def test_the_options_become_those_of_the_functions(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"a key\n")
    key.chmod(0o600)
    made = bridge_command._endpoint(
        cli.build_parser().parse_args(
            [
                "bridge",
                "connect",
                "demo",
                "--nats",
                "nats://a",
                "--nats",
                "nats://b",
                "--prefix",
                "p",
                "--creds",
                "c",
                "--nkey",
                "n",
                "--access",
                "660",
                "--authkey-file",
                str(key),
            ]
        )
    )
    assert made.subjects.open == "p.open.demo"
    assert made._common.nats == ["nats://a", "nats://b"]
    assert made._common.nats_options == {"user_credentials": "c", "nkeys_seed": "n"}
    assert made._server._options["access"] == 0o660
    assert made._server._options["authkey"] == b"a key"


@linux_only
def test_other_commands_do_not_load_what_bridges():
    code = "import sys, npipes.cli; npipes.cli.build_parser(); print('npipes.bridge' in sys.modules)"
    assert run_python(code) == "False\n"


@linux_only
@pytest.mark.parametrize("installed", [True, False])
def test_it_runs_on_uvloop_where_that_is_installed(monkeypatch, installed):
    if installed:
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    with contextlib.closing(bridge_running._new_loop()) as loop:
        assert type(loop).__module__.startswith("uvloop" if installed else "asyncio")
