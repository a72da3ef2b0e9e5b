"""Memory and descriptors stay what they are, whatever way calls end."""

from support import linux_only, run_python

PROGRAM = """
    import gc, os, sys
    import npipes

    def fails(error, call, *args, **kwargs):
        try:
            call(*args, **kwargs)
        except error:
            return
        raise AssertionError(f"{call} has not failed")

    def use():
        a, b = npipes.Pipe()
        for size in (100, 20_000):
            a.send_bytes(bytes(size))
            b.recv_bytes()
        a.send_many([b"1", bytes(9000), b"3"])
        while b.poll():
            b.recv_many()
        for call in (b.recv_bytes, b.recv_many):
            fails(npipes.PipeTimeoutError, call, timeout=0)
        fails(npipes.PipeTimeoutError, b.recv_bytes_into, bytearray(3), timeout=0)
        fails(npipes.PipeNotFoundError, npipes.connect, "nobody", timeout=0)
        fails(ValueError, b.recv_bytes, -1)
        fails(ValueError, a.send_bytes, b"x", 5)
        fails(TypeError, a.send_many, [b"x", 5])
        a.send_bytes(bytes(20_000))
        fails(npipes.MessageTooLargeError, b.recv_bytes, 5)
        fails(Exception, b.recv_bytes_into, bytearray(10))      # BufferTooShort, with the message
        os.write(a.fileno(), b"\\0\\1\\0\\0" + bytes(30_000))      # half of a message
        for _ in range(2):
            fails(npipes.PipeTimeoutError, b.recv_bytes_into, bytearray(70_000), timeout=0)
        a.close()
        fails(npipes.PipeResetError, b.recv_bytes)
        with npipes.Listener(sys.argv[1]) as listener, npipes.connect(sys.argv[1]) as client:
            listener.accept().close()
            fails(npipes.PipeTimeoutError, listener.accept, timeout=0)
            fails(npipes.ConnectionClosed, client.recv_bytes)
            npipes.find("*")

    def held():
        gc.collect()
        with open("/proc/self/statm") as f:
            pages = int(f.read().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))

    for _ in range(100):
        use()
    memory, descriptors = held()
    for _ in range(1000):
        use()
    now = held()
    assert now[0] - memory < 1 << 20, f"{now[0] - memory} bytes more"
    assert now[1] == descriptors
"""


@linux_only
def test_nothing_is_left_of_calls_that_end_in_any_way(pipe_name):
    run_python(PROGRAM, pipe_name)
