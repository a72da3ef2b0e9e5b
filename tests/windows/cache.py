"""The cache directory: what was expensive to make, named by what it was made from.

An entry is a directory `<kind>-<key>`. It is made under another name and renamed when it is whole, so an entry that exists
is complete, whatever interrupted the run that made it. Runs may overlap: they hold `use.lock` together, and the last one
to leave tidies up.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# How many entries of a kind survive tidying: enough to go back and forth between a few branches.
_KEPT = 3
_KEPT_OF = {"unfinished": 0}

_NOT_SOURCE = {".so", ".pyc", ".pyd", ".o"}


def root() -> Path:
    """The cache directory, created if need be."""
    named = os.environ.get("NPIPES_WINE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = (Path(named) if named else Path(base) / "npipes-windows").expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*inputs: str | Path) -> str:
    """A digest of strings, files and directories (their files' names and contents; what a build leaves behind is skipped)."""
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            digest.update(f"text {item}\0".encode())
            continue
        for file in sorted(item.rglob("*")) if item.is_dir() else [item]:
            if file.is_file() and file.suffix not in _NOT_SOURCE:
                name = file.relative_to(item.parent)
                digest.update(f"file {name} {hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()[:16]


def entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The entry of this kind and key; `make` fills the directory it is given, if there is no such entry yet."""
    path = root() / f"{kind}-{key}"
    if not path.exists():
        with _locked("make.lock", fcntl.LOCK_EX):
            if not path.exists():
                unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=root()))
                try:
                    make(unfinished)
                    unfinished.rename(path)
                except BaseException:
                    shutil.rmtree(unfinished, ignore_errors=True)
                    raise
    os.utime(path)  # tidying goes by the last use
    return path


@contextlib.contextmanager
def use(last_one_out: Callable[[], None]) -> Iterator[None]:
    """Hold the cache in use. At the end, if no other run holds it, call `last_one_out` and remove what has become old."""
    with _locked("use.lock", fcntl.LOCK_SH) as lock:
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):  # another run still uses it, and will be the last
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                last_one_out()
                _tidy()


def _tidy() -> None:
    by_kind: dict[str, list[Path]] = {}
    for path in root().iterdir():
        if path.is_dir():
            by_kind.setdefault(path.name.rpartition("-")[0], []).append(path)
    for kind, paths in by_kind.items():
        paths.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in paths[_KEPT_OF.get(kind, _KEPT) :]:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(name: str, how: int) -> Iterator[int]:
    # Not inherited by child processes, so a Wine server that outlives a killed run does not keep the lock.
    lock = os.open(root() / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, how)
        yield lock
    finally:
        os.close(lock)
