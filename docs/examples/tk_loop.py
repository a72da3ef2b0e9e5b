"""A window of Tk that shows what clients send.

python tk_loop.py [NAME]
python tk_loop.py --check           without a window
"""

import os
import sys
import threading
import tkinter

import npipes


def watch(tk, server, milliseconds=15):
    """Has Tk's loop deliver the events of a server that runs."""
    if hasattr(tk, "createfilehandler"):  # not under Windows
        tk.createfilehandler(server.fileno(), tkinter.READABLE, lambda *_: server.dispatch())
        return

    def tick():
        server.dispatch()
        tk.after(milliseconds, tick)

    tick()


def show(name="demo"):
    window = tkinter.Tk()
    window.title("npipes")
    lines = tkinter.Listbox(window, width=60)
    lines.pack(fill="both", expand=True)
    server = npipes.Server(name)

    @server.event
    def on_message(conn, data, cookie):
        lines.insert("end", data.decode(errors="replace"))
        conn.write(b"shown")

    with server:
        watch(window, server)
        window.mainloop()


def check():
    tk = tkinter.Tcl()  # the loop without a display
    server = npipes.Server(f"tk-{os.getpid()}")
    server.on_message = lambda conn, data, cookie: conn.write(data.upper())
    answers = []

    def talk():
        answers.append(npipes.call(server.address, b"hello", timeout=20))

    with server:
        watch(tk, server)
        client = threading.Thread(target=talk)
        client.start()
        while client.is_alive():
            tk.dooneevent(tkinter._tkinter.DONT_WAIT)
            client.join(0.002)
        if hasattr(tk, "deletefilehandler"):
            tk.deletefilehandler(server.fileno())
    assert answers == [b"HELLO"], answers


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        show(*sys.argv[1:])
