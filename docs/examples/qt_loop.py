"""Linux: a server in the loop of Qt (PySide6); what differs under Windows is in watch().

python qt_loop.py [NAME]
python qt_loop.py --check           without a window
"""

import os
import sys
import threading

import npipes
from PySide6 import QtCore


def watch(server):
    """Has Qt's loop deliver the events of a server that runs; keep what it returns until the server stops."""
    if sys.platform == "win32":
        notifier = QtCore.QWinEventNotifier(server.wait_handle)
    else:
        notifier = QtCore.QSocketNotifier(server.fileno(), QtCore.QSocketNotifier.Type.Read)
    notifier.activated.connect(lambda *_: server.dispatch())
    return notifier


def show(name="demo"):
    from PySide6 import QtWidgets

    app = QtWidgets.QApplication([])
    lines = QtWidgets.QListWidget()
    lines.show()
    server = npipes.Server(name)

    @server.event
    def on_message(conn, data, cookie):
        lines.addItem(data.decode(errors="replace"))
        conn.write(b"shown")

    with server:
        notifier = watch(server)
        app.exec()
        notifier.setEnabled(False)


def check():
    app = QtCore.QCoreApplication([])
    server = npipes.Server(f"qt-{os.getpid()}")
    server.on_message = lambda conn, data, cookie: conn.write(data.upper())
    server.on_disconnected = lambda conn: app.quit()
    answers = []

    def talk():
        answers.append(npipes.call(server.address, b"hello", timeout=20))

    with server:
        notifier = watch(server)
        client = threading.Thread(target=talk)
        client.start()
        app.exec()
        client.join()
        notifier.setEnabled(False)
    assert answers == [b"HELLO"], answers


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        show(*sys.argv[1:])
