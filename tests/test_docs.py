"""What the README and the documentation say is so: their programs run, their tables agree."""

import ast
import asyncio
import configparser
import contextlib
import re
import shutil
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import bridge_support
import pytest
from support import TIMEOUT, WINDOWS, child_environment, linux_only

import npipes
import npipes.aio
from npipes import plain

PROJECT = Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
EXAMPLES = sorted((PROJECT / "docs" / "examples").glob("*.py"))
FENCE = re.compile(r"^```python *(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORDS = {"server", "client", "asyncio", "nats", "pytest", "linux", "windows"}


# ---- blocks of Python ----------------------------------------------------


class Block:
    def __init__(self, page, line, words, code):
        self.page, self.line, self.words, self.code = page, line, words, code
        self.clients = []  # of a server: the blocks that talk to it
        self.nats = None  # where a NATS server is

    def __str__(self):
        return f"{self.page.name}:{self.line}"

    def compiled(self, name):
        """As a program whose lines have the numbers of the page, under a name of its own."""
        code = "\n" * self.line + self.code.replace('"demo"', repr(name))
        code = code.replace('"demo-from-afar"', repr(f"{name}-from-afar"))
        code = code.replace('"nats://hub:4222"', repr(self.nats))
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if "asyncio" in self.words else 0
        return compile(code, self.page, "exec", flags)

    def started(self, name, names):
        """An asyncio block as a coroutine."""
        return types.FunctionType(self.compiled(name), names)()


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        block = Block(page, line, set(found[1].split()), found[2])
        assert block.words <= WORDS, f"{block}: {block.words - WORDS} is not a known word"
        if "client" in block.words:
            assert blocks and "server" in blocks[-1].words, f"{block}: a client of no server"
            blocks[-1].clients.append(block)
        else:
            blocks.append(block)
    return blocks


def is_for_this_system(block):
    return not block.words & ({"linux"} if WINDOWS else {"windows"})


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks_of(page)], ids=str)
def test_a_block_of_python_runs(block, pipe_name, tmp_path, capfd):
    if not is_for_this_system(block):
        pytest.skip("a block for the other system")
    if "nats" in block.words:
        with nats_server() as block.nats:
            asyncio.run(run_on_a_loop(block, pipe_name))
    elif "pytest" in block.words:
        run_with_pytest(block, pipe_name, tmp_path)
    elif "asyncio" in block.words:
        asyncio.run(run_on_a_loop(block, pipe_name))
    elif "server" in block.words:
        run_with_clients(block, pipe_name)
    else:
        exec(block.compiled(pipe_name), {"__name__": "__main__"})
    if not WINDOWS and not block.words & {"nats", "pytest"}:  # addresses and errors are shown as Linux has them
        printed = capfd.readouterr().out.splitlines()
        for part in (block, *block.clients):
            assert_shown(part, pipe_name, printed)


def assert_shown(block, name, printed):
    """What a comment behind print() says was printed."""
    for shown in re.findall(r"^ *print\(.*\) +# (.*)$", block.code, re.MULTILINE):
        line = ".*".join(map(re.escape, shown.replace("demo", name).split("...")))
        assert any(re.fullmatch(line, text) for text in printed), f"{block}: {shown!r} is not in {printed}"


def nats_server():
    pytest.importorskip("nats", reason="nats-py is not installed")
    if not bridge_support.has_nats():
        pytest.skip("nats-server is not installed")
    return bridge_support.nats_url()


def run_with_clients(block, name):
    assert block.clients, f"{block}: a server without a client"
    names, errors = {"__name__": "__main__"}, []

    def run():
        try:
            exec(block.compiled(name), names)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        end = time.monotonic() + TIMEOUT
        while not errors and not ("server" in names and names["server"].is_running):
            assert time.monotonic() < end, f"{block}: no server runs"
            time.sleep(0.005)
        for client in [] if errors else block.clients:
            exec(client.compiled(name), {"__name__": "__main__"})
    finally:
        if "server" in names:
            names["server"].quit()
        thread.join(TIMEOUT)
    assert not thread.is_alive(), f"{block}: run() has not returned"
    assert not errors, f"{block}: {errors[0]!r}"
    assert not names["server"].is_running, f"{block}: the server was not stopped"


async def run_on_a_loop(block, name):
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, error: errors.append(error))
    async with asyncio.timeout(TIMEOUT):
        if "server" in block.words:
            await serve_and_be_cancelled(block, name)
        else:
            await block.started(name, {})
    assert not errors, f"{block}: {errors}"


async def serve_and_be_cancelled(block, name):
    """Ends the server's block as Ctrl-C does."""
    assert block.clients, f"{block}: a server without a client"
    names = {}
    server = asyncio.create_task(block.started(name, names))
    while not server.done() and not ("server" in names and names["server"].is_running):
        await asyncio.sleep(0.005)
    for client in [] if server.done() else block.clients:
        await client.started(name, {})
    server.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await server
    assert not names["server"].is_running, f"{block}: the server was not closed"


def run_with_pytest(block, name, directory):
    file = directory / "test_block.py"
    file.write_text(block.code.replace('"demo"', repr(name)), encoding="utf-8")
    run_pytest(file, directory)


def run_pytest(file, directory):
    options = ["-q", "-p", "no:cacheprovider", "-c", "none.ini", "--rootdir", "."]
    (directory / "none.ini").write_text("[pytest]\n")
    # From elsewhere pytest would look through all folders above it.
    here = directory / file.name
    if here != file:
        shutil.copy(file, here)
    run_python(directory, "-m", "pytest", *options, str(here))


def run_python(directory, *args):
    """A program that must end well, in a directory from which nothing can be imported."""
    done = subprocess.run(
        [sys.executable, *args],
        cwd=directory,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


# ---- examples ------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_checks_itself(example, tmp_path):
    text = example.read_text(encoding="utf-8")
    if text.startswith('"""Linux:' if WINDOWS else '"""Windows:'):
        pytest.skip("an example for the other system")
    for module in re.findall(r"^(?:import|from) (tkinter|PySide6|win32pipe|win32serviceutil)", text, re.MULTILINE):
        found = pytest.importorskip(module)
        if module == "tkinter":
            try:
                found.Tcl()
            except found.TclError as error:
                pytest.skip(f"Tcl has not all of its files here: {error}")
    if example.name.startswith("pytest"):
        run_pytest(example, tmp_path)
    else:
        run_python(tmp_path, str(example), "--check")


@linux_only
def test_the_unit_is_one_for_systemd():
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str
    unit.read(PROJECT / "docs" / "examples" / "npipes-echo.service")
    assert unit["Service"]["Type"] == "notify"
    program, path = unit["Service"]["ExecStart"].split()[1:]
    assert (PROJECT / "docs" / "examples" / Path(program).name).exists()
    assert path == f"/run/{unit['Service']['RuntimeDirectory']}/socket"
    page = (PROJECT / "docs" / "howto" / "systemd.md").read_text(encoding="utf-8")
    assert path in page


def test_every_example_is_named_by_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {"echo_server.py", "chat_broadcast.py"} | set(re.findall(r"examples/(\w+\.py)", text))
    assert named == {path.name for path in EXAMPLES}


# ---- links and commands --------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def commands(language):
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return "".join(found).splitlines()


def test_the_readme_sets_up_with_one_command_each():
    demo, tests = commands("sh")
    assert demo.endswith(" && .venv/bin/npipes demo")
    assert tests.endswith(" && .venv/bin/python -m pytest")


def test_the_commands_for_windows_are_the_same():
    translated = [
        command.replace("python3 ", "py ").replace(".venv/bin/", ".venv\\Scripts\\").replace("'", "")
        for command in commands("sh")
    ]
    assert commands("bat") == translated


def test_the_commands_of_the_readme_are_those_that_must_pass():
    """.ci/run takes them out of the README by a word of each."""
    script = PROJECT / ".ci" / "run"
    if not script.exists():
        pytest.skip("there is no .ci/run here")
    words = re.findall(r"^ *run_readme '(.*)'$", script.read_text(encoding="utf-8"), re.MULTILINE)
    found = [next(c for c in commands("sh") if word in c) for word in words]
    assert sorted(found) == sorted(commands("sh"))


# ---- the reference -------------------------------------------------------


def reference():
    return (PROJECT / "docs" / "reference.md").read_text(encoding="utf-8")


def section(title):
    found = re.search(rf"^(#+) {title}$(.*?)(?=^#{{1,3}} |\Z)", reference(), re.M | re.S)
    assert found, f"reference.md has no section {title}"
    return found[2]


def named(text):
    """What the first column of the tables names."""
    cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def public(*classes):
    return {name for cls in classes for name in vars(cls) if not name.startswith("_")}


def test_the_reference_has_every_name():
    missing = [name for name in npipes.__all__ if not re.search(rf"\b{name}\b", reference())]
    assert not missing


def test_the_reference_has_all_of_the_server():
    told = [named(section(title)) for title in ("Events", "Methods", "Attributes")]
    parameters = named(section(r"Server\(name, \*, ...\)"))
    assert set.union(parameters, *told) == public(*npipes.Server.__mro__)


def test_the_reference_has_all_of_the_connection():
    assert named(section("ServerConnection")) == public(*npipes.ServerConnection.__mro__)


def test_the_reference_has_what_is_a_managers_alone():
    assert named(section(r"ClientManager\(\*, ...\)")) == public(npipes.ClientManager)
    ours = public(npipes.ClientConnection) - public(npipes.ServerConnection)
    assert named(section("ClientConnection")) == ours
    shared = public(*npipes.ClientManager.__mro__) & public(*npipes.Server.__mro__)
    left_out = public(*npipes.Server.__mro__) - shared
    assert left_out == {"name", "max_instances", "listeners", "max_handshakes", "access", "address"}


def test_the_reference_has_all_of_the_client_and_the_listener():
    assert named(section("Client")) == public(npipes.Client)
    assert named(section(r"Listener\(address=None, .*?\)")) == public(npipes.Listener)


def test_the_reference_has_what_is_a_bags_alone():
    mapping = public(*npipes.PropertyBag.__mro__[1:])
    told = named(section(r"PropertyBag\(contents=None, .*?\)"))
    assert told - {"clear"} == public(npipes.PropertyBag) - mapping


def test_the_page_of_payloads_has_every_plain_class():
    page = (PROJECT / "docs" / "payloads.md").read_text(encoding="utf-8")
    names = {name.value for module in plain._MODULES.values() for name in module().values()}
    missing = [cls.__name__ for cls in names - {None} if not re.search(rf"\b{cls.__name__}\b", page)]
    assert not missing


def test_the_reference_has_all_of_npipes_aio():
    assert named(section("Connection")) == public(npipes.aio.Connection)
    assert named(section(r"serve\(handler, name, .*?\)")) == public(npipes.aio.Server)


def test_the_reference_has_all_of_peer_and_stats():
    text = section("Peer, Stats")
    assert named(text) == set(npipes.Stats.__match_args__)
    assert set(re.findall(r"`([a-z]+)`", text.splitlines()[4])) == set(npipes.Peer.__match_args__)


def test_the_reference_has_the_errors_as_they_are():
    rows = re.findall(r"^\| `(\w+)` \| ?([\w.]*) \| (E\w+) \|", section("Errors"), re.MULTILINE)
    public = [getattr(npipes, name) for name in npipes.__all__]
    errors = {thing.__name__ for thing in public if isinstance(thing, type) and issubclass(thing, npipes.PipeError)} - {
        "PipeError"
    }
    assert {name for name, _, _ in rows} == errors
    for name, base, _ in rows:
        first = npipes.AccessDeniedError if name == "AuthenticationError" else npipes.PipeError
        bases = [cls.__name__ for cls in getattr(npipes, name).__bases__]
        assert bases == [first.__name__] + ([base.rpartition(".")[2]] if base else [])


def test_the_reference_has_the_parameters_as_they_are(pipe_name):
    text = section(r"Server\(name, \*, ...\)")
    server = npipes.Server(pipe_name)
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*?) \|", text, re.MULTILINE)
    assert len(rows) == 16
    for name, default, values in rows:
        value = eval(default)
        if name == "authkey":  # it tells only whether there is one
            value = value is not None
        assert getattr(server, name) == value, name
        if limits := re.match(r"(\d+) to (\d+)(, None)?$", values):
            least, most = int(limits[1]), int(limits[2])
            for value in (least, most, *([None] if limits[3] else [])):
                setattr(server, name, value)
            for value in (least - 1, most + 1):
                with pytest.raises(ValueError, match=name):
                    setattr(server, name, value)


@linux_only
def test_the_longest_names_are_those_that_the_pages_tell():
    for name, longest in (("/x", 107), ("@x", 108)):
        npipes.address(name.ljust(longest, "x"))
        with pytest.raises(ValueError, match=str(longest)):
            npipes.address(name.ljust(longest + 1, "x"))


def test_the_tests_that_a_page_names_are_there():
    page = (PROJECT / "docs/testing.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", page)
    assert len(named) > 40
    for file, name in named:
        text = (PROJECT / "tests" / file).read_text()
        assert re.search(rf"^def {name}\(", text, re.M), f"{file} has no {name}"
