"""How handlers are given and replaced, and what comes of one that raises."""

import pytest
from support import TIMEOUT, Client, Log, echo, eventually, running, unraisable

import npipes

NAMES = ("on_ready", "on_connected", "on_message", "on_messages", "on_sent", "on_disconnected", "on_drained", "on_error")


# ---- giving them ----------------------------------------------------------


def by_argument(name, handler):
    return npipes.Server(name, on_message=handler)


def by_attribute(name, handler):
    server = npipes.Server(name)
    server.on_message = handler
    return server


def by_decorator(name, handler):
    server = npipes.Server(name)

    @server.event
    def on_message(conn, data, cookie):
        handler(conn, data, cookie)

    assert callable(on_message)
    return server


def by_subclass(name, handler):
    class Echo(npipes.Server):
        def on_message(self, conn, data, cookie):
            assert conn.server is self
            handler(conn, data, cookie)

    return Echo(name)


@pytest.mark.parametrize("make", [by_argument, by_attribute, by_decorator, by_subclass])
def test_there_are_four_ways_to_give_a_handler(pipe_name, free, make):
    server = make(pipe_name, echo)
    server.free_threading_events = free
    with running(server), Client(server) as client:
        assert client.request(b"hello") == b"hello"


def test_a_subclass_may_handle_every_event_and_have_a_state_of_its_own(pipe_name, free):
    class Recorder(npipes.Server):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.log = Log()

        def on_ready(self):
            self.log.add("on_ready")

        def on_connected(self, conn):
            self.log.add("on_connected")

        def on_messages(self, conn, messages):
            self.log.add("on_messages")
            conn.write(b"".join(messages), cookie="c")

        def on_sent(self, conn, cookie):
            self.log.add("on_sent", cookie)

        def on_disconnected(self, conn):
            self.log.add("on_disconnected")

    server = Recorder(pipe_name, free_threading_events=free)
    with running(server):
        with Client(server) as client:
            assert client.request(b"x") == b"x"
        server.log.wait("on_disconnected")
    assert server.log.entries == [("on_ready",), ("on_connected",), ("on_messages",), ("on_sent", "c"), ("on_disconnected",)]


def test_static_and_class_methods_and_callable_objects_are_handlers(pipe_name):
    log = Log()

    class Called:
        def __call__(self, conn, cookie):
            log.add("object", cookie)

    class Server(npipes.Server):
        @staticmethod
        def on_connected(conn):
            log.add("static")

        @classmethod
        def on_message(cls, conn, data, cookie):
            log.add("class", cls, data)
            conn.write(data, cookie="k")

    server = Server(pipe_name, free_threading_events=True, on_sent=Called())
    with running(server):
        with Client(server) as client:
            client.request(b"x")
        log.wait("object")
    assert log.entries == [("static",), ("class", Server, b"x"), ("object", "k")]


def test_an_argument_goes_before_a_method_of_the_subclass(pipe_name):
    class Server(npipes.Server):
        def on_message(self, conn, data, cookie):
            conn.write(b"method")

    def on_message(conn, data, cookie):
        conn.write(b"argument")

    with running(Server(pipe_name, on_message=on_message)) as server, Client(server) as client:
        assert client.request(b"x") == b"argument"


@pytest.mark.parametrize("name", NAMES)
def test_handlers_are_attributes_that_can_be_read_and_cleared(pipe_name, name):
    server = npipes.Server(pipe_name)
    assert getattr(server, name) is None
    setattr(server, name, echo)
    assert getattr(server, name) is echo
    setattr(server, name, None)
    assert getattr(server, name) is None
    with pytest.raises(TypeError, match=name):
        setattr(server, name, "not callable")
    with pytest.raises(TypeError, match=name):
        npipes.Server(pipe_name, **{name: 1})


def test_only_events_can_be_decorated(pipe_name):
    server = npipes.Server(pipe_name)
    with pytest.raises(ValueError, match="on_mesage"):

        @server.event
        def on_mesage(conn, data, cookie):
            pass

    with pytest.raises(AttributeError):
        server.event(5)


# ---- replacing them -------------------------------------------------------


@pytest.mark.parametrize("make", [by_argument, by_attribute, by_decorator, by_subclass])
def test_a_handler_can_be_replaced_while_the_server_runs(pipe_name, free, make):
    server = make(pipe_name, echo)
    server.free_threading_events = free
    with running(server), Client(server) as client:
        assert client.request(b"x") == b"x"
        server.on_message = lambda conn, data, cookie: conn.write(data * 2)
        assert client.request(b"y") == b"yy"


def test_a_handler_can_replace_itself(serve, connect, free):
    def first(conn, data, cookie):
        conn.server.on_message = second
        conn.write(b"first")

    def second(conn, data, cookie):
        conn.server.on_message = None
        conn.server.on_messages = lambda conn, messages: conn.write(b"third")
        conn.write(b"second")

    client = connect(serve(free_threading_events=free, on_message=first))
    assert [client.request(b"x") for _ in range(4)] == [b"first", b"second", b"third", b"third"]


def test_sent_can_be_asked_for_while_the_server_runs(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, on_message=echo)
    client = connect(server)
    client.request(b"unheard")
    server.on_sent = log.handler("on_sent")
    client.request(b"heard")
    log.wait("on_sent")
    server.on_sent = None
    client.request(b"unheard")
    assert len(log.of("on_sent")) == 1


def test_a_message_without_a_handler_is_dropped(serve, connect, free):
    log = Log()
    server = serve(free_threading_events=free, **log.handlers("on_disconnected"))
    with Client(server) as client:
        client.send(b"x")
    log.wait("on_disconnected")
    assert server.stats.messages_in == 1
    server.on_message = echo
    assert connect(server).request(b"y") == b"y"


# ---- raising --------------------------------------------------------------


@pytest.mark.parametrize("event", [n for n in NAMES if n not in ("on_drained", "on_error")])
def test_a_handler_that_raises_goes_to_the_unraisable_hook_and_harms_nothing_else(pipe_name, free, event):
    log = Log()
    error = ValueError("raised by the test")

    def raising(*args):
        log.add(event)
        raise error

    handlers = {"on_message": echo, "on_disconnected": log.handler("on_disconnected")}
    handlers[event] = raising
    if event == "on_messages":
        # The reply comes from the next batch's handler, which is on_message again.
        def raising(*args):
            log.add(event)
            args[0].server.on_messages = None
            raise error

        handlers[event] = raising
    server = npipes.Server(pipe_name, free_threading_events=free, **handlers)
    with unraisable() as caught:
        with running(server):
            with Client(server) as client:
                if event in ("on_message", "on_messages"):
                    client.send(b"lost")
                    log.wait(event)
                    server.on_message = echo
                assert client.request(b"x") == b"x"
            log.wait("on_disconnected")
            with Client(server) as client:
                assert client.request(b"y") == b"y"
    assert {exception for exception, _ in caught} == {error}
    assert len(caught) == log.names().count(event)
    assert all(handler is raising for _, handler in caught)


def test_an_error_handler_that_raises_harms_nothing_else(serve, free):
    log = Log()

    def on_error(conn, error):
        log.add("on_error")
        raise RuntimeError("raised by the test")

    server = serve(
        free_threading_events=free,
        max_message_size=10,
        on_message=echo,
        on_error=on_error,
        on_disconnected=log.handler("on_disconnected"),
    )
    with unraisable() as caught:
        with Client(server) as client:
            client.send(b"more than ten bytes")
            log.wait("on_disconnected")
        with Client(server) as client:
            assert client.request(b"x") == b"x"
    assert [str(exception) for exception, _ in caught] == ["raised by the test"]


def test_a_handler_with_the_wrong_number_of_parameters_is_reported(serve, connect):
    with unraisable() as caught:
        server = serve(on_message=lambda: None)
        client = connect(server)
        client.send(b"x")
        assert eventually(lambda: caught)
        server.on_message = echo
        assert client.request(b"y") == b"y"
    assert isinstance(caught[0][0], TypeError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_ends_run_when_a_handler_raises_it(pipe_name, error):
    log = Log()

    def on_message(conn, data, cookie):
        log.add("on_message", data)
        if data == b"raise":
            raise error
        conn.write(data)

    server = npipes.Server(pipe_name, on_message=on_message)
    with server, Client(server) as client:
        client.send(b"raise")
        with pytest.raises(error):
            server.run(timeout=TIMEOUT)
        assert server.is_running
        client.send(b"more")  # run() can go on
        assert eventually(lambda: server.dispatch(timeout=1) and client.connection.poll())
        assert client.receive() == b"more"
        client.send(b"raise")
        with pytest.raises(error):
            while True:
                server.dispatch(timeout=TIMEOUT)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_on_a_worker_nothing_ends_the_program(serve, connect, error):
    def on_message(conn, data, cookie):
        raise error

    with unraisable() as caught:
        server = serve(on_message=on_message)
        client = connect(server)
        client.send(b"x")
        assert eventually(lambda: caught)
        server.on_message = echo
        assert client.request(b"y") == b"y"
    assert isinstance(caught[0][0], error)


def test_stop_raises_what_a_handler_raises_to_end_the_program(pipe_name):
    def on_disconnected(conn):
        raise KeyboardInterrupt

    log = Log()
    server = npipes.Server(pipe_name, on_disconnected=on_disconnected, on_connected=log.handler("on_connected"))
    server.start()
    with Client(server) as client:
        while not log.of("on_connected"):
            server.dispatch(timeout=TIMEOUT)
        with pytest.raises(KeyboardInterrupt):
            server.stop()
        assert not server.is_running
        assert client.has_ended()
    server.stop()


def test_a_coroutine_function_is_refused_as_nobody_would_await_it(serve, pipe_name):
    async def on_message(conn, data, cookie):
        """Never called."""

    class Late(npipes.Server):
        async def on_message(self, conn, data, cookie):
            """Never called."""

    refused = pytest.raises(TypeError, match=r"on_message must be a plain function.*npipes\.aio\.serve\(\)")
    with refused:
        npipes.Server(pipe_name, on_message=on_message)
    with refused:
        Late(pipe_name).start()
    server = serve(on_message=echo)
    with refused:
        server.on_message = on_message
    assert server.on_message is echo
