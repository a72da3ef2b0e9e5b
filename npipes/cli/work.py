"""What `npipes serve` can do with its clients."""

from types import TracebackType

import npipes


class Work:
    """The events of a server, and what is to be done around it.

    Entered before the server starts, left after it has stopped.
    """

    title = ""
    continuous_read = True

    def __enter__(self) -> "Work":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def begin(self, server: npipes.Server) -> None:
        """The server runs."""

    def end(self) -> None:
        """The server has stopped."""

    def connected(self, conn: npipes.ServerConnection) -> None: ...

    def message(self, conn: npipes.ServerConnection, data: bytes, cookie: object) -> None: ...

    def drained(self, conn: npipes.ServerConnection) -> None: ...

    def disconnected(self, conn: npipes.ServerConnection) -> None: ...


class Echo(Work):
    """Every message back to who sent it."""

    title = "echoes"

    def message(self, conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        conn.write(data)
