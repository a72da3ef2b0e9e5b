"""What the system and a server's stats pipe tell about a pipe."""

import os
import stat
import sys
from dataclasses import dataclass
from typing import Any

import npipes
from npipes import stats
from npipes.discovery import matching

# A stats pipe answers at once; one that does not is not waited for.
_TIMEOUT = 1.0


@dataclass
class Facts:
    """None: not known."""

    name: str
    address: str
    owner: str | None = None
    pid: int | None = None
    connections: int | None = None
    mode: str | None = None  # who may connect: the socket file's mode
    report: dict[str, Any] | None = None  # the stats pipe's answer


def facts_of_all(pattern: str) -> list[Facts]:
    """Of the live pipes that match, but for stats pipes beside their server's."""
    live = set(npipes.find())
    names = [name for name in matching(live, pattern) if not _is_stats_pipe(name, live)]
    system = _System()
    return [_facts(name, system, name + stats.SUFFIX in live) for name in names]


def facts_of(name: str) -> Facts:
    """Of one pipe.  Raises PipeNotFoundError where there is none."""
    return _facts(name, _System(), True, must_be_there=True)


def _is_stats_pipe(name: str, live: set[str]) -> bool:
    return name.endswith(stats.SUFFIX) and name.removesuffix(stats.SUFFIX) in live


def _facts(name: str, system: "_System", with_stats: bool, must_be_there: bool = False) -> Facts:
    facts = Facts(name, npipes.address(name))
    system.fill(facts, must_be_there)
    if with_stats and not name.endswith(stats.SUFFIX):
        try:
            facts.report = stats.fetch(name, timeout=_TIMEOUT)
        except (OSError, ValueError):
            return facts
        facts.pid = facts.report.get("pid", facts.pid)
        facts.owner = facts.owner or facts.report.get("user")
        facts.connections = facts.report["stats"]["connections"]
    return facts


if sys.platform == "win32":
    from npipes import native

    class _System:
        """Windows tells only who connects."""

        def fill(self, facts: Facts, must_be_there: bool) -> None:
            if not must_be_there:
                return
            with npipes.connect(facts.name, timeout=_TIMEOUT) as client:
                handle = client.fileno()
                try:
                    facts.pid = native.GetNamedPipeServerProcessId(handle)
                    # One of the instances is this connection, and others wait for clients.
                    flags = native.GetNamedPipeInfo(handle).flags
                    facts.mode = "messages" if flags & native.PIPE_TYPE_MESSAGE else "bytes"
                except OSError:
                    pass

else:

    class _System:
        """What /proc has about sockets; no server notices that it is read."""

        def __init__(self) -> None:
            self._listening: dict[str, str] = {}  # inodes by path
            self._connected: dict[str, int] = {}  # accepted connections by path
            self._read_sockets()
            self._pids: dict[str, int] | None = None  # by inode

        def fill(self, facts: Facts, must_be_there: bool) -> None:
            if must_be_there and facts.address not in self._listening:
                # Says in its own words why not, or finds a server of another network namespace.
                npipes.connect(facts.name, timeout=0).close()
            if inode := self._listening.get(facts.address):
                facts.connections = self._connected.get(facts.address, 0)
                facts.pid = self._pid(inode)
            if not facts.address.startswith("@"):
                try:
                    status = os.stat(facts.address)
                except OSError:
                    return
                facts.owner = _user_name(status.st_uid)
                facts.mode = f"{stat.S_IMODE(status.st_mode):o}"

        def _read_sockets(self) -> None:
            try:
                with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as lines:
                    next(lines)
                    for line in lines:
                        self._read_socket(line.rstrip("\n").split(None, 7))
            except (OSError, StopIteration):
                pass

        def _read_socket(self, fields: list[str]) -> None:
            # Num RefCount Protocol Flags Type State Inode Path
            if len(fields) < 8:
                return
            inode, path = fields[6:]
            if int(fields[3], 16) & 0x10000:  # __SO_ACCEPTCON
                self._listening[path] = inode
            else:
                self._connected[path] = self._connected.get(path, 0) + 1

        def _pid(self, inode: str) -> int | None:
            """The first process that has the socket, of those that this user may look into."""
            if self._pids is None:
                self._pids = {}
                for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
                    self._read_descriptors(pid)
            return self._pids.get(inode)

        def _read_descriptors(self, pid: int) -> None:
            assert self._pids is not None
            directory = f"/proc/{pid}/fd"
            try:
                descriptors = os.listdir(directory)
            except OSError:
                return
            for descriptor in descriptors:
                try:
                    target = os.readlink(f"{directory}/{descriptor}")
                except OSError:
                    continue
                if target.startswith("socket:["):
                    self._pids.setdefault(target[8:-1], pid)

    def _user_name(uid: int) -> str:
        import pwd

        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)
