"""What can go wrong between two hosts, and the number under which it travels."""

import errno

from npipes._npipes import PipeError

__all__ = [
    "BadFrameError",
    "BridgeError",
    "FrameGapError",
    "NatsLostError",
    "PeerLostError",
    "TunnelFailedError",
    "TunnelRefusedError",
]


class BridgeError(PipeError):
    """A bridge, or one of its tunnels, failed."""

    errno_of_class = errno.EIO

    def __init__(self, text: str) -> None:
        super().__init__(self.errno_of_class, text)
        self.operation = "bridge"


class BadFrameError(BridgeError):
    """What came for a tunnel is not what a bridge sends."""

    errno_of_class = errno.EPROTO


class FrameGapError(BridgeError):
    """A frame is missing: NATS has dropped it, or a link or a NATS server was lost."""

    errno_of_class = errno.EPROTO


class PeerLostError(BridgeError):
    """Nothing came from the other bridge for three heartbeats."""

    errno_of_class = errno.ETIMEDOUT


class NatsLostError(BridgeError):
    """There is no connection to a NATS server, or there was none for too long."""

    errno_of_class = errno.ENOTCONN


class TunnelRefusedError(BridgeError):
    """Nobody serves the name, or none of those who do could take the connection."""

    errno_of_class = errno.ECONNREFUSED


class TunnelFailedError(BridgeError):
    """The other bridge ended the tunnel, and said why."""

    errno_of_class = errno.ECONNRESET
