"""The program under test: a client of a warehouse's server, which is another team's."""

import json
from collections.abc import Callable

import npipes
import npipes.aio


class OutOfStock(Exception):
    """The warehouse has not as many as were asked for."""


class Warehouse:
    """Blocking calls of the warehouse's server."""

    def __init__(self, address: str, timeout: float = 5.0) -> None:
        self._timeout = timeout
        self._client = npipes.connect(address, timeout=timeout)

    def reserve(self, article: str, count: int) -> int:
        """Reserves so many; how many are left.  Raises OutOfStock, or TimeoutError."""
        request = json.dumps({"article": article, "count": count}).encode()
        reply = json.loads(self._client.call(request, timeout=self._timeout))
        if "left" not in reply:
            raise OutOfStock(article)
        return int(reply["left"])

    def close(self) -> None:
        self._client.close()


async def watch(address: str, changed: Callable[[str], object]) -> None:
    """Calls changed with each article that the server tells of, until it closes."""
    async with npipes.aio.connect(address) as conn:
        async for message in conn:
            changed(message.decode())
