"""npipes.aio: connections that begin with the proof of a key."""

import asyncio
import contextlib

import pytest
from aio_support import echo, in_thread, until
from support import TIMEOUT, Client

import npipes
import npipes.aio

KEY = b"an open secret"


def test_both_ends_that_have_the_key_talk(loops, pipe_name):
    async def main():
        async with npipes.aio.serve(echo, pipe_name, authkey=KEY):
            for key in (KEY, bytearray(KEY), memoryview(KEY)):
                async with npipes.aio.connect(pipe_name, authkey=key) as conn:
                    assert await conn.call(b"hello") == b"hello"

    loops.run(main)


def test_the_standard_librarys_client_proves_it_too(loops, pipe_name):
    from multiprocessing.connection import Client as Standard

    def talk(address):
        with Standard(address, authkey=KEY) as client:
            client.send_bytes(b"hello")
            return client.recv_bytes()

    async def main():
        async with npipes.aio.serve(echo, pipe_name, authkey=KEY) as server:
            assert await in_thread(talk, server.address) == b"hello"

    loops.run(main)


def test_a_wrong_key_is_an_error_for_both_and_for_nobody_else(loops, pipe_name):
    errors = []

    async def main():
        async with npipes.aio.serve(
            echo, pipe_name, authkey=KEY, on_error=lambda conn, error: errors.append((conn, error))
        ) as server:
            async with npipes.aio.connect(pipe_name, authkey=KEY) as good:
                with pytest.raises(npipes.AuthenticationError) as caught:
                    await npipes.aio.connect(pipe_name, authkey=b"another")
                assert "another" not in str(caught.value) and "secret" not in str(caught.value)
                assert await good.call(b"x") == b"x"
                await until(lambda: errors)
                assert len(server.connections) == 1
        assert errors[0][0] is None and isinstance(errors[0][1], npipes.AuthenticationError)

    loops.run(main)


def test_a_silent_client_is_no_connection_and_delays_nobody(loops, pipe_name):
    async def main():
        refused = []
        options = {"authkey": KEY, "on_error": lambda conn, error: refused.append(error)}
        async with npipes.aio.serve(echo, pipe_name, **options) as server:
            silent = await in_thread(Client, server.address)
            with contextlib.closing(silent):
                async with npipes.aio.connect(pipe_name, authkey=KEY, timeout=TIMEOUT) as conn:
                    assert await conn.call(b"x") == b"x"
                    assert len(server.connections) == 1
                    assert not refused  # the silent one could still speak

    loops.run(main)


def test_a_key_that_can_not_be_is_refused_without_being_shown(pipe_name):
    async def main():
        for bad, error in ((b"", ValueError), ("secret", TypeError), ([1], TypeError)):
            for make in (npipes.aio.connect, lambda name, **k: npipes.aio.serve(echo, name, **k)):
                with pytest.raises(error) as caught:
                    await make(pipe_name, authkey=bad)
                assert "secret" not in str(caught.value)

    asyncio.run(main())
