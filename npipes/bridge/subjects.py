"""Names of pipes as subjects of NATS.

    PREFIX.open.NAME                    where clients' bridges ask for a tunnel; one queue group
    PREFIX.up.NAME.BRIDGE.TUNNEL        frames for the bridge of a server
    PREFIX.down.NAME.BRIDGE.TUNNEL      frames for the bridge of a client
    PREFIX.stream.NAME                  messages for JetStream

The kind comes first, so that no name can be mistaken for another's part, and the two directions
have subjects of their own, so that a user of NATS can be allowed one role only.
"""

import re
import secrets

__all__ = ["PREFIX", "Subjects", "is_token", "new_token"]

PREFIX = "npipes"
MAX_NAME = 128
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_TOKEN = re.compile(r"[0-9a-f]{32}")


def new_token() -> str:
    """A name for a bridge or a tunnel that nobody can guess."""
    return secrets.token_hex(16)


def is_token(text: object) -> bool:
    """Whether a peer's word can be a part of a subject."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


class Subjects:
    """The subjects of one name.

    Raises ValueError for a name or prefix with other characters than letters and digits of ASCII,
    '-', '_', and single dots between them.
    """

    def __init__(self, name: str, prefix: str = PREFIX) -> None:
        _check("name", name)
        _check("prefix", prefix)
        self.name = name
        self.open = f"{prefix}.open.{name}"
        self.queue = f"{prefix}.{name}"
        self.stream = f"{prefix}.stream.{name}"
        self._up = f"{prefix}.up.{name}"
        self._down = f"{prefix}.down.{name}"

    def up(self, bridge: str, tunnel: str) -> str:
        """Where the bridge of a server gets the frames of a tunnel ('*': of all)."""
        return f"{self._up}.{bridge}.{tunnel}"

    def down(self, bridge: str, tunnel: str) -> str:
        """Where the bridge of a client gets the frames of a tunnel ('*': of all)."""
        return f"{self._down}.{bridge}.{tunnel}"


def _check(what: str, text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"a bridge's {what} must be a str, not {type(text).__name__}")
    if len(text) > MAX_NAME:
        raise ValueError(f"a bridge's {what} has at most {MAX_NAME} characters, not {len(text)}")
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"a bridge's {what} is made of letters and digits of ASCII, '-', '_' and single dots "
            f"between them, as it is a subject of NATS; {text!r} is not"
        )
