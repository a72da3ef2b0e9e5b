"""What `npipes serve` can do with its clients."""

import npipes


class Work:
    """The events of a server, and what is to be done around it."""

    title = ""
    continuous_read = True

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
