"""Requests with time limits, over a few connections that are shared and replaced.

python aio_pool.py NAME TEXT ...    asks the server NAME for every TEXT
python aio_pool.py --check
"""

import asyncio
import os
import sys

import npipes.aio


class Pool:
    """Up to `size` connections to one server; each has one request at a time.

    A connection whose request failed, or took too long, is closed, and the next one is new.
    """

    def __init__(self, name, size=4):
        self._name = name
        self._free = asyncio.Semaphore(size)
        self._idle = []

    async def ask(self, request, timeout):
        async with asyncio.timeout(timeout), self._free:
            conn = self._take() or await npipes.aio.connect(self._name)
            try:
                reply = await conn.call(request)
            except BaseException:
                conn.close()
                raise
            self._idle.append(conn)
            return reply

    def _take(self):
        """An idle connection that the server has not closed meanwhile."""
        while self._idle:
            conn = self._idle.pop()
            if conn.is_connected:
                return conn
            conn.close()
        return None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        for conn in self._idle:
            await conn.close()


async def check():
    name = f"pool-{os.getpid()}"

    async def answer(conn):
        async for message in conn:
            if message == b"hang":
                await asyncio.sleep(60)
            if message == b"leave":
                return
            await conn.send(message[::-1])

    async with npipes.aio.serve(answer, name) as server, Pool(name) as pool:
        requests = [b"request %d" % number for number in range(200)]
        replies = await asyncio.gather(*(pool.ask(request, 20) for request in requests))
        assert replies == [request[::-1] for request in requests]
        assert len(server.connections) == 4

        good = asyncio.create_task(pool.ask(b"good", 20))
        for request, error in ((b"hang", TimeoutError), (b"leave", npipes.ConnectionClosed)):
            try:
                await pool.ask(request, 0.2 if error is TimeoutError else 20)
            except error:
                pass
            else:
                raise AssertionError(request)
        assert await good == b"doog"
        assert await pool.ask(b"again", 20) == b"niaga"
        await server.close(grace=0)


async def main(name, *texts):
    async with Pool(name) as pool:
        asked = [pool.ask(text.encode(), timeout=30) for text in texts]
        for reply in await asyncio.gather(*asked, return_exceptions=True):
            print(reply if isinstance(reply, Exception) else reply.decode(errors="replace"))


if __name__ == "__main__":
    asyncio.run(check() if "--check" in sys.argv else main(*sys.argv[1:]))
