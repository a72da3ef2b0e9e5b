"""Windows: a service whose clients are the users of this machine; needs pywin32.

python windows_service.py install | start | stop | remove
python windows_service.py --check   without the service manager
"""

import os
import sys
import threading

import npipes
import servicemanager
import win32serviceutil


class EchoService(win32serviceutil.ServiceFramework):
    _svc_name_ = "npipes-echo"
    _svc_display_name_ = "Echo server of npipes"

    def __init__(self, args):
        super().__init__(args)
        self.server = make_server("npipes-echo")

    def SvcDoRun(self):
        with self.server:
            self.server.run()  # SvcStop ends it

    def SvcStop(self):
        self.server.quit()


def make_server(name):
    server = npipes.Server(name, access="everyone")
    server.on_message = lambda conn, data, cookie: conn.write(data)
    server.on_error = lambda conn, error: servicemanager.LogWarningMsg(str(error))
    return server


def check():
    service = EchoService.__new__(EchoService)
    service.server = make_server(f"service-{os.getpid()}")
    running = threading.Thread(target=service.SvcDoRun)
    running.start()
    assert npipes.call(service.server.address, b"hello", timeout=20) == b"hello"
    service.SvcStop()
    running.join(20)
    assert not running.is_alive()


if __name__ == "__main__":
    if "--check" in sys.argv:
        check()
    else:
        win32serviceutil.HandleCommandLine(EchoService)
