"""`npipes serve --broadcast`: lines of standard input to every client."""

import os
import threading
import time
from functools import partial

import npipes
from npipes.cli.common import lines_of
from npipes.cli.work import Work

_GRACE = 5.0  # seconds for clients to take the last lines


class Broadcast(Work):
    """A thread reads standard input; at its end the server ends, when clients have taken all."""

    title = "broadcasts"

    def begin(self, server: npipes.Server) -> None:
        # A daemon: a read of a terminal can't be ended.
        threading.Thread(target=self._read, args=(server,), daemon=True).start()

    def _read(self, server: npipes.Server) -> None:
        try:
            # Not sys.stdin: its lock, held by a daemon, would end the interpreter with an abort.
            for line in lines_of(partial(os.read, 0)):
                if line:
                    server.broadcast(line)
            end = time.monotonic() + _GRACE
            while any(c.pending_bytes for c in server.connections) and time.monotonic() < end:
                time.sleep(0.01)
        except OSError:
            pass  # standard input is closed: its end too
        finally:
            server.quit()
