"""Echo server of npipes.  usage: echo_npipes.py ADDRESS free|run|free-list|run-list"""

import sys

import npipes

address, kind = sys.argv[1:]
delivery, _, shape = kind.partition("-")
server = npipes.Server(address, free_threading_events=delivery == "free")

if shape == "list":

    @server.event
    def on_messages(conn: npipes.ServerConnection, messages: list[bytes]) -> None:
        conn.write_many(messages)

else:

    @server.event
    def on_message(conn: npipes.ServerConnection, data: bytes, cookie: object) -> None:
        conn.write(data)


with server:
    server.run()
