"""npipes list, info, top, bench and completion: what they show, on a terminal and elsewhere."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from support import WINDOWS, child_environment, echo, is_wine, linux_only

import npipes
from npipes import cli, stats
from npipes.cli import bench, common, output, top

lists_pipes = pytest.mark.skipif(WINDOWS and is_wine(), reason="Wine can't list the directory of pipes")


# ---- the stats pipe ------------------------------------------------------


def test_a_stats_pipe_tells_the_counters(serve, pipe_name):
    server = serve(on_message=echo)
    with stats.StatsPipe(server) as pipe:
        assert pipe.address == server.address + ".stats"
        with npipes.connect(pipe_name) as client:
            assert client.call(b"hello") == b"hello"
            report = stats.fetch(pipe_name)
            assert report["version"] == 1 and report["running"] is True
            assert (report["pid"], report["address"]) == (os.getpid(), server.address)
            assert set(report["stats"]) == set(npipes.Stats.__match_args__)
            assert report["stats"]["messages_in"] == 1 and report["stats"]["bytes_in"] == 5
            assert report["peers"][0]["pid"] == os.getpid()
            assert report["uptime"] >= 0
    with pytest.raises(FileNotFoundError):
        stats.fetch(pipe_name)


def test_a_stats_pipe_refuses_other_requests(serve, pipe_name):
    server = serve()
    with stats.StatsPipe(server) as pipe:
        answer = json.loads(npipes.call(pipe.address, b"what"))
        assert answer == {"version": 1, "error": "the request must be 'stats'"}
        with pytest.raises((EOFError, OSError)):
            npipes.call(pipe.address, bytes(2000))
        assert stats.fetch(pipe_name)["stats"]["connections"] == 0


@pytest.mark.parametrize("answer", [b"no JSON", b"[]", b'{"version": 2}', b'{"version": 1, "stats": 3}'])
def test_what_is_no_stats_pipe_is_told(answer, serve, pipe_name):
    serve(pipe_name + ".stats", on_message=lambda conn, data, cookie: conn.write(answer))
    with pytest.raises(npipes.ProtocolError, match="does not answer as a stats pipe"):
        stats.fetch(pipe_name)


# ---- list and info -------------------------------------------------------


@lists_pipes
def test_list_shows_live_pipes(serve, pipe_name, capfd):
    server = serve(on_message=echo)
    with stats.StatsPipe(server), npipes.connect(pipe_name) as client:
        client.call(b"x")
        assert cli.main(["list", pipe_name[:-1] + "?*", "--json"]) == 0
        (found,) = (f for f in json.loads(capfd.readouterr().out) if f["name"] == pipe_name)
        assert found["address"] == server.address
        assert (found["pid"], found["connections"]) == (os.getpid(), 1)
        assert found["owner"]
        assert cli.main(["list", pipe_name]) == 0
        head, row = capfd.readouterr().out.splitlines()
        assert head.split() == ["NAME", "OWNER", "PID", "CONNECTIONS"]
        assert row.split() == [pipe_name, found["owner"], str(os.getpid()), "1"]


@linux_only
def test_list_knows_a_server_without_stats_and_does_not_disturb_it(serve, pipe_name, capfd):
    server = serve(on_message=echo)
    with npipes.connect(pipe_name) as client:
        client.call(b"x")
        assert cli.main(["list", pipe_name, "--json"]) == 0
        (found,) = json.loads(capfd.readouterr().out)
        assert (found["pid"], found["connections"]) == (os.getpid(), 1)
        assert server.stats.connections_total == 1


@lists_pipes
def test_list_of_nothing_is_nothing(pipe_name, capfd):
    assert cli.main(["list", pipe_name]) == 0
    assert cli.main(["list", pipe_name, "--json"]) == 0
    assert capfd.readouterr().out == "[]\n"


def test_info_tells_what_the_server_does(serve, pipe_name, capfd):
    server = serve(on_message=echo)
    with stats.StatsPipe(server):
        assert cli.main(["info", pipe_name]) == 0
        out = capfd.readouterr().out
        assert re.search(rf"^process: +{os.getpid()}$", out, re.MULTILINE)
        assert re.search(r"^messages in: +0$", out, re.MULTILINE)
        assert cli.main(["info", pipe_name, "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert found["address"] == server.address
        assert found["server"]["stats"]["errors"] == 0


def test_info_without_stats_has_the_process(serve, pipe_name, capfd):
    serve()
    assert cli.main(["info", pipe_name, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["pid"], found["server"]) == (os.getpid(), None)
    assert found["mode"] == ("messages" if WINDOWS else "600")


def test_info_says_that_there_is_no_such_pipe(pipe_name, capfd):
    assert cli.main(["info", pipe_name]) == 1
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("npipes info: ") and err.count("\n") == 1


# ---- top -----------------------------------------------------------------


def test_top_prints_a_line_a_look(serve, pipe_name, capfd):
    server = serve(on_message=echo)
    with stats.StatsPipe(server):
        assert cli.main(["top", pipe_name, "--interval", "0.05", "--count", "2"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"..:..:..  0 connections  in 0/s 0 B/s  out 0/s .* errors 0", lines[0])


def test_top_says_how_a_server_publishes(serve, pipe_name, capfd):
    serve()
    assert cli.main(["top", pipe_name]) == 1
    assert f"`npipes serve {pipe_name} --stats` does" in capfd.readouterr().err


def test_rates_are_of_the_time_between(serve, pipe_name):
    server = serve(on_message=echo)
    with stats.StatsPipe(server), npipes.connect(pipe_name) as client:
        before = stats.fetch(pipe_name)
        client.call(bytes(100))
        after = stats.fetch(pipe_name)
        assert top.rates(before, after, 0.5)["bytes_in"] == 200
        assert top.rates(after, before, 0.5)["bytes_in"] == 0


def test_the_screen_has_counters_and_peers(serve, pipe_name):
    console = pytest.importorskip("rich.console")
    server = serve(on_message=echo)
    with stats.StatsPipe(server), npipes.connect(pipe_name) as client:
        client.call(b"x")
        report = stats.fetch(pipe_name)
    report["peers"][0]["user"] = "[red]\x1b[31m"
    file = io.StringIO()
    console.Console(file=file, width=100).print(top._picture(report, top.rates(report, report, 1)))
    text = file.getvalue()
    assert f"process {os.getpid()}" in text and "connections 1 of 1" in text
    assert r"[red]\x1b[31m" in text and "\x1b[31m" not in text


def test_serve_publishes_where_it_is_told(pipe_name, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "npipes", "serve", pipe_name, "--echo", "--stats"],
        cwd=tmp_path,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        process.stdout.readline()
        assert stats.fetch(pipe_name, timeout=20)["pid"] == process.pid
    finally:
        process.kill()
        process.communicate()


# ---- bench ---------------------------------------------------------------


def test_bench_compares_in_one_run(capfd):
    command = ["bench", "--compare", "--json", "--seconds", "0.06", "--large", "100k"]
    assert cli.main(command) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert set(found["results"]) == {"npipes", "multiprocessing", "asyncio"}
    for result in found["results"].values():
        assert all(value > 0 for value in result.values())
        assert result["round_trip_median"] <= result["round_trip_99"]
    assert err == ""


@pytest.mark.skipif(WINDOWS and is_wine(), reason="under Wine the run above is enough: it takes long")
def test_bench_draws_a_histogram(capfd):
    assert cli.main(["bench", "--seconds", "0.06", "--large", "100k"]) == 0
    out = capfd.readouterr().out
    assert re.search(r"^ *< [\d.]+ (us|ms) +[\d,]+  #+$", out, re.MULTILINE)
    assert re.search(r"^npipes +[\d,]+ +[\d.]+ (us|ms)", out, re.MULTILINE)


def test_a_histogram_counts_every_time():
    lines = bench.histogram([1.1e-6] * 30 + [1.5e-6] * 10 + [9e-6])
    counts = [int(line.split()[3]) for line in lines]
    assert counts == [30, 10, 0, 0, 0, 0, 1]
    assert lines[0].endswith(" " + 40 * "#") and lines[-1].endswith(" #")


def test_bench_refuses_what_it_can_not_measure(capfd):
    assert cli.main(["bench", "--large", "1G"]) == 2
    assert "64 MiB" in capfd.readouterr().err


# ---- completion and help -------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_is_printed(shell, capfd):
    pytest.importorskip("argcomplete")
    assert cli.main(["completion", shell]) == 0
    assert "npipes" in capfd.readouterr().out


def test_completion_without_argcomplete_says_what_is_missing(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert cli.main(["completion", "bash"]) == 1
    assert "npipes-ipc[cli]" in capfd.readouterr().err


@linux_only
def test_commands_and_live_names_are_completed(serve, pipe_name, tmp_path):
    pytest.importorskip("argcomplete")
    serve()

    def completed(line):
        file = tmp_path / "out"
        variables = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(file),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        code = "import sys; sys.argv = ['npipes']; from npipes.cli import main; main()"
        subprocess.run(
            [sys.executable, "-c", code],
            env=child_environment(**variables),
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        return file.read_text().split("\n")

    assert [text.strip() for text in completed("npipes comp")] == ["completion"]
    assert pipe_name in [text.strip() for text in completed(f"npipes info {pipe_name[:-1]}")]


@linux_only
def test_fish_completes_commands_options_and_live_names(serve, pipe_name, tmp_path):
    pytest.importorskip("argcomplete")
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("there is no fish")
    serve()
    program = tmp_path / "npipes"
    program.write_text(f"#!{sys.executable}\nfrom npipes.cli import main\nmain()\n")
    program.chmod(0o755)
    lines = ["npipes comp", "npipes serve --br", f"npipes info {pipe_name[:-1]}"]
    done = subprocess.run(
        [fish, "-c", "npipes completion fish | source\nfor line in $argv; complete -C $line; end", *lines],
        env=child_environment(PATH=f"{tmp_path}:{os.environ['PATH']}", HOME=str(tmp_path)),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    completed = [line.split("\t")[0].strip() for line in done.stdout.splitlines()]
    assert completed == ["completion", "--broadcast", pipe_name]


COMMANDS = ["demo", "serve", "send", "listen", "list", "info", "top", "bench", "completion"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capfd):
    with pytest.raises(SystemExit) as info:
        cli.main([command, "--help"])
    assert info.value.code == 0
    assert re.search(rf"^examples:\n.*npipes {command}", capfd.readouterr().out, re.MULTILINE | re.DOTALL)


def test_a_key_is_no_argument(capfd):
    for command in ("serve", "send", "listen"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    options = set(re.findall(r"--authkey\S*", capfd.readouterr().out))
    assert {o.strip("],") for o in options} == {"--authkey-file", "--authkey-env"}


def test_everything_works_without_rich(serve, pipe_name, capfd, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert output.console(Terminal()) is None


def test_tables_are_rich_on_a_terminal(monkeypatch):
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.print_table(("NAME", "PID"), [("[bold]x", "1")], right=("PID",))
    assert "[bold]x" in terminal.getvalue()


# ---- parts ---------------------------------------------------------------


@pytest.mark.parametrize(("text", "count"), [("5", 5), ("64k", 65536), ("1M", 1 << 20), ("2GiB", 2 << 30), ("3 kb", 3072)])
def test_sizes_are_read(text, count):
    assert common.size(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1x", "k", "1.5M"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(Exception, match="is not a size"):
        common.size(text)


def test_progress_has_rate_and_time_left():
    text = output.progress_text("sending", 10 << 20, 40 << 20, 5.0)
    assert text == "sending  10.0 MiB of 40.0 MiB (25 %)  2.0 MiB/s  15 s left"
    assert output.progress_text("sending", 512, None, 1.0) == "sending  512 B  512 B/s"


def test_a_progress_bar_is_drawn_on_a_terminal_only(monkeypatch):
    class Screen(io.StringIO):
        is_terminal = True

        def isatty(self):
            return self.is_terminal

    for rich, is_terminal in ((True, True), (False, True), (False, False)):
        screen = Screen()
        screen.is_terminal = is_terminal
        monkeypatch.setattr(sys, "stderr", screen)
        if not rich:
            monkeypatch.setattr(output, "console", lambda stream: None)
        with output.Progress("sending", 100) as progress:
            progress._begin -= 10
            progress.show(50)
        assert bool(screen.getvalue()) is is_terminal
