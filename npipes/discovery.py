"""Which pipes there are."""

import os
import re
import sys
from collections.abc import Iterable

from npipes._npipes import address

__all__ = ["find"]


def find(pattern: str = "*") -> list[str]:
    """The leaf names of the live pipes that match: `*` stands for any text, `?` for one character."""
    return matching(_names(), pattern)


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Those of the names that match, sorted."""
    parts = {"*": ".*", "?": "."}
    text = "".join(parts.get(letter) or re.escape(letter) for letter in pattern)
    expression = re.compile(text, re.DOTALL | (re.IGNORECASE if sys.platform == "win32" else 0))
    return sorted(name for name in names if expression.fullmatch(name))


if sys.platform == "win32":

    def _names() -> list[str]:
        return os.listdir(r"\\.\pipe\\")

else:
    import errno
    import socket
    import stat

    def _names() -> list[str]:
        directory = os.path.dirname(address("x"))
        try:
            entries = os.scandir(directory)
        except FileNotFoundError:
            return []
        with entries:
            return [e.name for e in entries if _is_live(e)]

    def _is_live(entry: "os.DirEntry[str]") -> bool:
        try:
            if not stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                return False
        except OSError:
            return False  # gone meanwhile
        # A connect of another socket type is refused by a live socket as well, but for another reason, and no server
        # notices it.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            return probe.connect_ex(entry.path) in (errno.EPROTOTYPE, errno.EACCES)
