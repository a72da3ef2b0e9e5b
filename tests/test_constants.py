"""The constants of named pipes are Windows' own, and readable everywhere."""

import enum

import pytest
from support import windows_only

from npipes import constants

# As the headers of the Windows SDK have them: winbase.h, winnt.h, fileapi.h, winerror.h.
SDK = {
    "PIPE_ACCESS_INBOUND": 0x1,
    "PIPE_ACCESS_OUTBOUND": 0x2,
    "PIPE_ACCESS_DUPLEX": 0x3,
    "FILE_FLAG_FIRST_PIPE_INSTANCE": 0x80000,
    "FILE_FLAG_OVERLAPPED": 0x40000000,
    "FILE_FLAG_WRITE_THROUGH": 0x80000000,
    "PIPE_TYPE_BYTE": 0,
    "PIPE_TYPE_MESSAGE": 4,
    "PIPE_READMODE_BYTE": 0,
    "PIPE_READMODE_MESSAGE": 2,
    "PIPE_WAIT": 0,
    "PIPE_NOWAIT": 1,
    "PIPE_ACCEPT_REMOTE_CLIENTS": 0,
    "PIPE_REJECT_REMOTE_CLIENTS": 8,
    "PIPE_CLIENT_END": 0,
    "PIPE_SERVER_END": 1,
    "PIPE_UNLIMITED_INSTANCES": 255,
    "FILE_READ_ATTRIBUTES": 0x80,
    "FILE_WRITE_ATTRIBUTES": 0x100,
    "GENERIC_READ": 0x80000000,
    "GENERIC_WRITE": 0x40000000,
    "GENERIC_EXECUTE": 0x20000000,
    "GENERIC_ALL": 0x10000000,
    "SECURITY_ANONYMOUS": 0,
    "SECURITY_IDENTIFICATION": 1 << 16,
    "SECURITY_IMPERSONATION": 2 << 16,
    "SECURITY_DELEGATION": 3 << 16,
    "SECURITY_CONTEXT_TRACKING": 0x40000,
    "SECURITY_EFFECTIVE_ONLY": 0x80000,
    "SECURITY_SQOS_PRESENT": 0x100000,
    "CREATE_NEW": 1,
    "CREATE_ALWAYS": 2,
    "OPEN_EXISTING": 3,
    "OPEN_ALWAYS": 4,
    "TRUNCATE_EXISTING": 5,
    "NMPWAIT_USE_DEFAULT_WAIT": 0,
    "NMPWAIT_NOWAIT": 1,
    "NMPWAIT_WAIT_FOREVER": 0xFFFFFFFF,
    "INVALID_HANDLE_VALUE": -1,
    "ERROR_SUCCESS": 0,
    "ERROR_FILE_NOT_FOUND": 2,
    "ERROR_CANNOT_CONNECT_TO_PIPE": 2,
    "ERROR_ACCESS_DENIED": 5,
    "ERROR_INVALID_HANDLE": 6,
    "ERROR_INVALID_PARAMETER": 87,
    "ERROR_BROKEN_PIPE": 109,
    "ERROR_SEM_TIMEOUT": 121,
    "ERROR_INVALID_NAME": 123,
    "ERROR_BAD_PIPE": 230,
    "ERROR_PIPE_BUSY": 231,
    "ERROR_NO_DATA": 232,
    "ERROR_PIPE_NOT_CONNECTED": 233,
    "ERROR_MORE_DATA": 234,
    "ERROR_PIPE_CONNECTED": 535,
    "ERROR_PIPE_LISTENING": 536,
    "ERROR_OPERATION_ABORTED": 995,
    "ERROR_IO_INCOMPLETE": 996,
    "ERROR_IO_PENDING": 997,
    "ERROR_NOT_FOUND": 1168,
}


def groups():
    return [value for name, value in vars(constants).items() if name in constants.__all__ and isinstance(value, type)]


def members():
    """Every name of every group, those that share a value included."""
    return {name: member for group in groups() for name, member in group.__members__.items()}


def test_the_values_are_those_of_the_windows_sdk():
    names = set(constants.__all__) - {group.__name__ for group in groups()}
    assert {name: int(getattr(constants, name)) for name in names} == SDK


def test_every_name_of_a_group_is_a_name_of_the_module():
    for name, member in members().items():
        assert getattr(constants, name) is member, name
    assert set(SDK) - set(members()) == {"PIPE_UNLIMITED_INSTANCES", "INVALID_HANDLE_VALUE"}


def test_no_name_is_in_two_groups():
    assert len(members()) == sum(len(group.__members__) for group in groups())


def test_bits_are_flags_and_the_rest_are_numbers():
    flags = {"OpenMode", "PipeMode", "PipeEnd", "Access", "SecurityQos"}
    for group in groups():
        assert issubclass(group, enum.IntFlag if group.__name__ in flags else enum.IntEnum), group


def test_flags_of_one_group_show_their_names():
    mode = constants.PIPE_TYPE_MESSAGE | constants.PIPE_READMODE_MESSAGE | constants.PIPE_WAIT
    assert mode == 6
    assert {flag.name for flag in mode} == {"PIPE_TYPE_MESSAGE", "PIPE_READMODE_MESSAGE"}


def test_flags_of_two_groups_make_the_number_that_windows_takes():
    flags = constants.FILE_FLAG_OVERLAPPED | constants.SECURITY_SQOS_PRESENT
    assert flags == 0x40100000
    assert constants.SECURITY_SQOS_PRESENT | constants.FILE_FLAG_OVERLAPPED == flags


def test_an_error_can_be_looked_up():
    assert constants.WinError(231).name == "ERROR_PIPE_BUSY"
    assert constants.ERROR_CANNOT_CONNECT_TO_PIPE is constants.ERROR_FILE_NOT_FOUND


@windows_only
@pytest.mark.parametrize("module", ["win32con", "win32file", "win32pipe", "winerror", "_winapi"])
def test_pywin32_and_the_standard_library_have_the_same_values(module):
    theirs = pytest.importorskip(module)
    common = set(SDK) & set(vars(theirs))
    assert common
    for name in common:
        assert getattr(theirs, name) & 0xFFFFFFFF == SDK[name] & 0xFFFFFFFF, name
