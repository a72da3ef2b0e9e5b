"""Many connected clients on one server: memory per connection, and round trips.

    python tests/bench/many.py [CLIENTS ...]     (default: 1 1000 10000)

For each number the server's memory beyond an idle one is divided by the
clients, and one client's round trips are measured while the others stay
connected.  multiprocessing's framing, this process has the clients.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MESSAGE = b"\0\0\0\x40" + bytes(64)


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Pss")


def dial(address: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(address)
    client.sendall(MESSAGE)
    assert len(client.recv(len(MESSAGE), socket.MSG_WAITALL)) == len(MESSAGE)
    return client


def round_trips(client: socket.socket, seconds: float = 1.0) -> float:
    count, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        client.sendall(MESSAGE)
        client.recv(len(MESSAGE), socket.MSG_WAITALL)
        count += 1
    return count / elapsed


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [1, 1000, 10000]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kinds = [("npipes", "echo_npipes.py", "free"), ("uvloop", "echo_peers.py", "uvloop")]
    print(f"{'server':10}{'clients':>9}{'bytes a client':>16}{'round trips/s':>15}")
    for name, script, kind in kinds:
        with tempfile.TemporaryDirectory(prefix="np-bench-") as folder:
            address = f"{folder}/echo.sock"
            command = [sys.executable, str(HERE / script), address, kind]
            server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while not Path(address).exists():
                time.sleep(0.02)
            clients = [dial(address)]
            idle = resident(server.pid)
            for count in counts:
                clients += [dial(address) for _ in range(count - len(clients))]
                each = (resident(server.pid) - idle) / max(len(clients) - 1, 1)
                rate = round_trips(clients[0])
                print(f"{name:10}{len(clients):9}{each:16.0f}{rate:15.0f}", flush=True)
            server.terminate()
            server.wait()
            for client in clients:
                client.close()


if __name__ == "__main__":
    main()
