"""Linux: an echo server for a unit of systemd, npipes-echo.service.

python systemd_service.py PATH
python systemd_service.py --check   as systemd would: waits for READY=1, asks, sends SIGTERM
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile

import npipes


def notify(state):
    """Tells systemd, if it is what started this program."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), address)


def main(path):
    server = npipes.Server(path, access="everyone")
    server.on_ready = lambda: notify("READY=1")
    server.on_message = lambda conn, data, cookie: conn.write(data)
    signal.signal(signal.SIGTERM, lambda number, frame: server.quit())
    with server:
        server.run()
        notify("STOPPING=1")


def check():
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"{folder}/notify")
        told.settimeout(20)
        path = f"{folder}/socket"
        environment = os.environ | {"NOTIFY_SOCKET": f"{folder}/notify"}
        service = subprocess.Popen([sys.executable, __file__, path], env=environment)
        try:
            assert told.recv(100) == b"READY=1"
            assert npipes.call(path, b"hello", timeout=20) == b"hello"
            service.terminate()
            assert told.recv(100) == b"STOPPING=1"
            assert service.wait(20) == 0
        finally:
            service.kill()
            service.wait()
        assert not os.path.exists(path)


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        main(sys.argv[1])
