"""Parameters are checked when they are set."""

import pytest

import npipes

NUMBERS = {
    "threads": (1, 1, 64, False),
    "message_buffer_size": (131072, 1, 2**31 - 1, False),
    "max_instances": (None, 1, 2**31 - 1, True),
    "listeners": (8, 1, 255, False),
    "max_message_size": (64 << 20, 1, 2**63 - 1, False),
    "write_high_water": (1 << 20, 1, 2**63 - 1, True),
    "max_pending_bytes": (64 << 20, 1, 2**63 - 1, False),
    "kernel_buffer_size": (None, 1, 2**31 - 1, True),
    "spin_us": (0, 0, 1_000_000, False),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_has_a_default_and_a_range(pipe_name, name):
    default, least, most, optional = NUMBERS[name]
    server = npipes.Server(pipe_name)
    assert getattr(server, name) == default
    for value in (least, most):
        setattr(server, name, value)
        assert getattr(server, name) == value
        assert getattr(npipes.Server(pipe_name, **{name: value}), name) == value
    for value in (least - 1, most + 1, -1, 2**64, -(2**70)):
        with pytest.raises(ValueError, match=rf"{name}.*{least}.*{most}.*{value}"):
            setattr(server, name, value)
        assert getattr(server, name) == most
        with pytest.raises(ValueError, match=name):
            npipes.Server(pipe_name, **{name: value})
    for value in ("1", 1.5, [], *(() if optional else (None,))):
        with pytest.raises(TypeError, match=name):
            setattr(server, name, value)
    if optional:
        setattr(server, name, None)
        assert getattr(server, name) is None
    with pytest.raises(AttributeError):
        delattr(server, name)


def test_the_time_of_a_message_has_a_default_and_a_range(pipe_name):
    server = npipes.Server(pipe_name)
    assert server.message_timeout == npipes.ClientManager().message_timeout == 60.0
    for value in (0.001, 5, 86400, None):
        server.message_timeout = value
        assert server.message_timeout == value
        assert npipes.ClientManager(message_timeout=value).message_timeout == value
    for value in (0, -1, 0.0009, 86401, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="message_timeout.*0.001.*86400"):
            server.message_timeout = value
    for value in ("1", [], b"1"):
        with pytest.raises(TypeError, match="message_timeout"):
            npipes.Server(pipe_name, message_timeout=value)
    assert server.message_timeout is None
    with pytest.raises(AttributeError):
        del server.message_timeout


@pytest.mark.parametrize(("name", "default"), [("free_threading_events", False), ("continuous_read", True)])
def test_flags_have_defaults(pipe_name, name, default):
    server = npipes.Server(pipe_name)
    assert getattr(server, name) is default
    setattr(server, name, not default)
    assert getattr(server, name) is not default
    assert getattr(npipes.Server(pipe_name, **{name: not default}), name) is not default


def test_modes_are_checked(pipe_name):
    server = npipes.Server(pipe_name)
    assert (server.mode, server.access, server.authkey) == ("message", "user", False)
    for mode in ("bytes", "", None, 1):
        with pytest.raises(ValueError, match="message.*byte"):
            server.mode = mode
