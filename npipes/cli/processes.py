"""`npipes serve --exec`: one process a client."""

import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import npipes
from npipes.cli.common import Failed, lines_of
from npipes.cli.work import Work

_GRACE = 2.0  # seconds that a process has to end by itself when its input has ended


class Processes(Work):
    """Starts the program for every client; all of them have ended when the server has.

    Messages are read one by one: the next when the process has taken the one before, so that
    a process that is slow holds up its own client only.
    """

    title = "starts processes"
    continuous_read = False

    def __init__(self, program: str, say: Callable[[str], object]) -> None:
        # Windows' programs take their command line as it is.
        self._command = program if sys.platform == "win32" else shlex.split(program)
        if not self._command:
            raise ValueError("--exec needs a command")
        self._say = say
        self._lock = threading.Lock()  # guards _children
        self._children: dict[npipes.ServerConnection, _Child] = {}

    def check(self) -> None:
        """Fails where there is no such program; Windows' command lines are not looked into."""
        if sys.platform != "win32" and shutil.which(self._command[0]) is None:
            raise Failed(f"--exec: there is no program {self._command[0]!r}")

    def end(self) -> None:
        with self._lock:
            children = list(self._children.values())
        for child in children:
            child.finish()
        for child in children:
            child.join()

    def connected(self, conn: npipes.ServerConnection) -> None:
        try:
            child = _Child(self._command, conn, self._ended)
        except OSError as error:
            self._say(f"{conn.custom_data}: can't start {self._command!r}: {error}")
            conn.close()
            return
        with self._lock:
            self._children[conn] = child
        child.start()
        conn.read()

    def message(self, conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        if child := self._children.get(conn):
            child.put(data)

    def drained(self, conn: npipes.ServerConnection) -> None:
        if child := self._children.get(conn):
            child.room.set()

    def disconnected(self, conn: npipes.ServerConnection) -> None:
        if child := self._children.get(conn):
            child.finish()

    def _ended(self, conn: npipes.ServerConnection, code: int) -> None:
        self._say(f"{conn.custom_data}: the process has ended with exit code {code}")
        with self._lock:
            del self._children[conn]


class _Child:
    """A process and two threads: one writes its input, one reads its output and sees it end.

    A third one ends the process when it has to end.
    """

    def __init__(
        self,
        command: str | list[str],
        conn: npipes.ServerConnection,
        ended: Callable[[npipes.ServerConnection, int], None],
    ) -> None:
        self._conn, self._ended = conn, ended
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.room = threading.Event()  # set: there may be room for more to write
        self._finished = threading.Event()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # what it starts itself can be ended with it; POSIX only
            env=os.environ | _about(conn),
        )
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._ender = threading.Thread(target=self._terminate, daemon=True)

    def start(self) -> None:
        for thread in (self._writer, self._reader, self._ender):
            thread.start()

    def put(self, data: bytes) -> None:
        self._messages.put(data)

    def finish(self) -> None:
        """No more input.  Waits for nothing; more than once is once."""
        self._finished.set()
        self.room.set()
        self._messages.put(None)

    def join(self) -> None:
        # Bounded: under Windows what the process has started may hold its pipes after its end.
        for thread in (self._ender, self._writer, self._reader):
            thread.join(3 * _GRACE)

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(OSError), pipe:  # the process no longer reads
            while (data := self._messages.get()) is not None:
                left = memoryview(data + b"\n")
                while left:
                    left = left[pipe.write(left) :]
                self._conn.read()

    def _terminate(self) -> None:
        self._finished.wait()
        for number in ("SIGTERM", "SIGKILL"):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
                break
            self._signal(number)
        self._process.wait()

    def _signal(self, number: str) -> None:
        if sys.platform == "win32":
            self._process.kill()
        else:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, getattr(signal, number))

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe:
            for line in lines_of(pipe.read):
                self._send(line)
        code = self._process.wait()
        self._conn.close()
        self.finish()
        self._ended(self._conn, code)

    def _send(self, line: bytes) -> None:
        """Waits while the client does not take what it gets."""
        while line and not self._finished.is_set():
            self.room.clear()
            try:
                self._conn.write(line)
                return
            except npipes.QueueFullError:
                # Drained may have come before the clear: look again soon.
                self.room.wait(0.1)
            except OSError:  # the client is gone; the process's output goes nowhere
                return


def _about(conn: npipes.ServerConnection) -> dict[str, str]:
    """Environment variables that tell a process whom it serves."""
    try:
        peer = conn.peer
    except npipes.PipeClosedError:
        return {}
    known = {"NPIPES_PEER_PID": peer.pid, "NPIPES_PEER_USER": peer.user}
    return {name: str(value) for name, value in known.items() if value is not None}
