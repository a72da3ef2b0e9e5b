"""Handlers whose exceptions are kept for the test."""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any


class Errors:
    """What handlers raised, in its order.  Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _errors
        self._errors: list[BaseException] = []

    def take(self) -> list[BaseException]:
        """What there is so far, and forget it."""
        with self._lock:
            errors, self._errors = self._errors, []
        return errors

    def add(self, error: BaseException) -> None:
        with self._lock:
            self._errors.append(error)

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, but what it raises is kept instead.

        Cancelling, and ends of the interpreter, go on.
        """
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):

            @functools.wraps(function, assigned=())
            async def awaited(*args: Any) -> Any:
                try:
                    return await function(*args)
                except Exception as error:
                    if not is_end(error, args):
                        self.add(error)
                    return None

            return awaited

        def called(*args: Any) -> Any:
            try:
                return function(*args)
            except Exception as error:
                self.add(error)
                return None

        return called


def is_end(error: Exception, args: tuple[Any, ...]) -> bool:
    """A handler of a connection that learned that it has ended orderly, which is no fault of its own."""
    import npipes

    return isinstance(error, npipes.ConnectionClosed) and bool(args) and getattr(args[0], "error", None) is None
