"""CPython's own tests of multiprocessing.connection, with npipes in its place."""

import multiprocessing
import sys
import unittest
import unittest.mock
from multiprocessing import resource_sharer

import pytest
import standard_connection
from support import TIMEOUT, is_wine

theirs = pytest.importorskip("test._test_multiprocessing", reason="this interpreter came without its test package")
NAMES = ["_TestConnection", "_TestListener", "_TestListenerClient", "_TestPoll", "_TestPicklingConnections"]


def install(name, start_method):
    """The class as one of this module's, as children of `spawn` must find it."""
    base = getattr(theirs, name)
    full = f"{start_method.capitalize()}{name.strip('_')}"

    class Test(base, unittest.TestCase):
        TYPE = "processes"
        connection = standard_connection
        Pipe = staticmethod(standard_connection.Pipe)
        Process = multiprocessing.get_context(start_method).Process

        def setUp(self):
            super().setUp()
            self.addCleanup(resource_sharer.stop, TIMEOUT)  # a thread, where one was started

    if hasattr(base, "test_empty_authkey"):
        Test.test_empty_authkey = unittest.skip("an empty authkey is refused")(base.test_empty_authkey)
    if is_wine() and hasattr(base, "test_multiple_bind"):
        skip = unittest.skip("Wine ignores FILE_FLAG_FIRST_PIPE_INSTANCE")
        Test.test_multiple_bind = skip(base.test_multiple_bind)
    Test.__module__, Test.__name__, Test.__qualname__ = __name__, full, full
    globals()[full] = Test


for start_method in ["spawn"] if sys.platform == "win32" else ["fork", "spawn"]:
    for name in NAMES:
        install(name, start_method)


class TestWait(theirs.TestWait):
    test_wait_socket = test_wait_socket_slow = None  # have nothing to do with pipes
    test_wait_timeout = None  # test_wait.py waits less for the same

    def setUp(self):
        replaced = unittest.mock.patch.object(multiprocessing, "Pipe", standard_connection.Pipe)
        replaced.start()
        self.addCleanup(replaced.stop)
