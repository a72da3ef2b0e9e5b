"""A pytest plugin: servers and clients of npipes for the tests of a program that uses pipes.

pytest loads this for every run in its environment, so nothing here imports npipes before a test asks for
one of these fixtures.
"""

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from npipes_pytest.asynchronous import AioClientFactory, AioServerFactory
    from npipes_pytest.leaks import Leaks
    from npipes_pytest.servers import ClientFactory, ServerFactory

__all__ = [
    "aio_pipe_client",
    "aio_pipe_server",
    "pipe_client",
    "pipe_leak_check",
    "pipe_name",
    "pipe_server",
]

_numbers = itertools.count(1)
_names = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "npipes_leak_check",
        "check after tests that use npipes' fixtures that they have left no connection, thread or socket file",
        type="bool",
        default=True,
    )


def _new_name(request: pytest.FixtureRequest) -> str:
    name = f"pytest-{os.getpid()}-{next(_numbers)}"
    request.node.stash.setdefault(_names, []).append(name)
    return name


@pytest.fixture
def pipe_name(request: pytest.FixtureRequest) -> str:
    """A leaf name that no other pipe has, in this run or another on the machine."""
    return _new_name(request)


@pytest.fixture
def pipe_leak_check(request: pytest.FixtureRequest) -> "Iterator[Leaks]":
    """After the test: no endpoint, connection, thread or socket file of its may be left.

    The other fixtures bring this one, unless the ini option npipes_leak_check is false.
    """
    from npipes_pytest.leaks import Leaks

    leaks = Leaks()
    yield leaks
    if left := leaks.left(request.node.stash.get(_names, [])):
        pytest.fail("the test left behind: " + "; ".join(left), pytrace=False)


@pytest.fixture
def _checked(request: pytest.FixtureRequest) -> None:
    if request.config.getini("npipes_leak_check"):
        request.getfixturevalue("pipe_leak_check")


@pytest.fixture
def pipe_server(request: pytest.FixtureRequest, _checked: None) -> "Iterator[ServerFactory]":
    """Starts servers that are stopped after the test: pipe_server(on_message or Server subclass).

    An exception that a handler raised fails the test.
    """
    from npipes_pytest.servers import ServerFactory

    factory = ServerFactory(lambda: _new_name(request))
    yield factory
    _fail(factory.close())


@pytest.fixture
def pipe_client(_checked: None) -> "Iterator[ClientFactory]":
    """Connects npipes.Clients that are closed after the test: pipe_client(server or name)."""
    from npipes_pytest.servers import ClientFactory

    factory = ClientFactory()
    yield factory
    factory.close()


@pytest.fixture
def aio_pipe_server(request: pytest.FixtureRequest, _checked: None) -> "Iterator[AioServerFactory]":
    """Makes servers for `async with aio_pipe_server(handler) as server`, under any asyncio plugin.

    An exception that a handler raised fails the test, and so does a server that was not closed.
    """
    from npipes_pytest.asynchronous import AioServerFactory

    factory = AioServerFactory(lambda: _new_name(request))
    yield factory
    _fail(factory.errors())


@pytest.fixture
def aio_pipe_client(_checked: None) -> "AioClientFactory":
    """Connects for `async with aio_pipe_client(server or name) as conn`, under any asyncio plugin."""
    from npipes_pytest.asynchronous import AioClientFactory

    return AioClientFactory()


def _fail(errors: list[BaseException]) -> None:
    """What failed inside handlers fails the test, with the tracebacks."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup("handlers of pipe servers failed", errors)
