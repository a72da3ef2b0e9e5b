"""The connection to NATS: its options, its losses and returns."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import NatsLostError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

__all__ = ["DEFAULT_SERVER", "NatsLink"]

DEFAULT_SERVER = "nats://127.0.0.1:4222"
_OWN = {"servers", "error_cb", "disconnected_cb", "reconnected_cb", "closed_cb", "name"}
_logger = logging.getLogger("npipes.bridge")


class NatsLink:
    """A client of NATS that is told apart: connected, lost since when, connected again."""

    def __init__(
        self,
        servers: str | Sequence[str],
        options: Mapping[str, Any],
        *,
        label: str,
        heartbeat: float,
        on_back: Callable[[], None],
        on_gone: Callable[[NatsLostError], None],
    ) -> None:
        wrong = _OWN & options.keys()
        if wrong:
            raise ValueError(f"nats_options has {sorted(wrong)}, which the bridge sets itself")
        self._options = {
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.5,
            "ping_interval": max(heartbeat, 1.0),
            "max_outstanding_pings": 2,
            **options,
            "servers": servers if isinstance(servers, str) else list(servers),
            "name": label,
            "error_cb": self._error,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._gone,
        }
        self._client: Client | None = None
        self._last_error: BaseException | None = None
        self._reason: BaseException | None = None
        self._lost_since: float | None = None
        self._on_back = on_back
        self._on_gone = on_gone
        self._closing = False

    async def open(self, timeout: float | None) -> None:
        """Connects; NatsLostError when that takes longer than timeout seconds."""
        try:
            from nats.aio.client import Client
        except ImportError as error:
            raise ImportError("npipes.bridge needs nats-py: pip install 'npipes-ipc[nats]'") from error
        client = Client()
        try:
            async with asyncio.timeout(timeout):
                await client.connect(**self._options)
        except TimeoutError:
            await _close(client)
            raise NatsLostError(
                f"no NATS server at {_shown(self._options['servers'])} within {timeout:g} seconds"
                + (f": {self._reason}" if self._reason else "")
            ) from None
        except BaseException as error:
            await _close(client)
            if isinstance(error, (OSError, asyncio.CancelledError)) or not _is_of_nats(error):
                raise
            raise NatsLostError(f"NATS: {error}") from error
        self._client = client

    @property
    def client(self) -> "Client":
        assert self._client is not None
        return self._client

    @property
    def is_up(self) -> bool:
        return self._lost_since is None and self.client.is_connected

    def lost_for(self, now: float) -> float:
        """For how many seconds there has been no connection; 0 while there is one."""
        return 0.0 if self._lost_since is None else now - self._lost_since

    async def subscribe(self, subject: str, take: "Callable[[Msg], Awaitable[None]]", queue: str = "") -> Any:
        # Credits bound what waits for a tunnel; a limit here would only be met by strangers, and
        # what is dropped then is missed by its number.
        return await self.client.subscribe(subject, queue=queue, cb=take)

    async def close(self) -> None:
        self._closing = True
        if self._client is not None:
            await _close(self._client)

    # ---- what nats-py tells ------------------------------------------------

    async def _error(self, error: Exception) -> None:
        is_news = not self._closing and str(error) != str(self._last_error)
        self._last_error = error
        # A server that has said what is wrong ends the connection, which says nothing more.
        if self._reason is None or not isinstance(error, ConnectionError):
            self._reason = error
        _logger.log(logging.WARNING if is_news else logging.DEBUG, "NATS: %s", error)

    async def _disconnected(self) -> None:
        if self._closing or self._client is None:
            return
        if self._lost_since is None:
            self._lost_since = asyncio.get_running_loop().time()
            _logger.warning("the connection to NATS is lost")

    async def _reconnected(self) -> None:
        self._lost_since = self._last_error = self._reason = None
        _logger.warning("connected to NATS again")
        self._on_back()

    async def _gone(self) -> None:
        """nats-py has given up: the server doesn't want this user any more, for one."""
        if not self._closing and self._client is not None:
            error = self._client.last_error or self._last_error
            self._on_gone(NatsLostError(f"NATS ended the connection for good: {error}"))


async def _close(client: "Client") -> None:
    """Closes a client, also one whose peer takes nothing any more."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(2):
            await client.close()


def _is_of_nats(error: BaseException) -> bool:
    from nats.errors import Error

    return isinstance(error, Error)


def _shown(servers: str | list[str]) -> str:
    """Addresses without what may be a password."""
    return ", ".join(
        address.rpartition("@")[2] if "@" in address else address
        for address in ([servers] if isinstance(servers, str) else servers)
    )
