"""One thread watches many servers, those that come later and come back included.

    python watch_servers.py NAME ...
    python watch_servers.py --check

Lines that a server sends are printed with its name.
"""

import os
import sys

import npipes


class Watcher(npipes.ClientManager):
    def __init__(self, names):
        super().__init__(reconnect=True, reconnect_delay=(0.05, 2.0))
        self.lines = []
        for name in names:
            # Returns at once; the servers need not be there yet.
            self.connect(name, timeout=None).custom_data = name

    def on_connected(self, conn):
        self.tell(conn, "is here")

    def on_message(self, conn, data, cookie):
        self.tell(conn, data.decode())

    def on_disconnected(self, conn):
        self.tell(conn, "has gone")

    def tell(self, conn, text):
        self.lines.append((conn.custom_data, text))
        print(f"{conn.custom_data}: {text}")


def check():
    names = [f"watched-{os.getpid()}-{number}" for number in range(3)]
    with Watcher(names) as watcher:
        for round_ in range(1, 3):
            servers = [npipes.Server(name, free_threading_events=True) for name in names]
            for server in servers:
                server.on_connected = lambda conn: conn.write(b"welcome")
                server.start()
            while watcher.stats.messages_in < len(names) * round_:
                watcher.run(timeout=0.01)
            for server in servers:
                server.stop()
            while watcher.connections:
                watcher.run(timeout=0.01)
    for name in names:
        told = [text for who, text in watcher.lines if who == name]
        assert told == ["is here", "welcome", "has gone"] * 2, told


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        try:
            with Watcher(sys.argv[1:]) as watcher:
                watcher.run()
        except KeyboardInterrupt:
            pass
