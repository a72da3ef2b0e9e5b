"""Pickles written opcode by opcode, as a peer may that keeps to no rules."""

import pickle
import struct


def text(s):
    data = s.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def data(b):
    return pickle.BINBYTES + struct.pack("<I", len(b)) + b


def number(n):
    size = n.bit_length() // 8 + 1
    return pickle.LONG4 + struct.pack("<i", size) + n.to_bytes(size, "little", signed=True)


def name(module, qualname):
    return text(module) + text(qualname) + pickle.STACK_GLOBAL


def put(index):
    return pickle.LONG_BINPUT + struct.pack("<I", index)


def get(index):
    return pickle.LONG_BINGET + struct.pack("<I", index)


def tuple_of(*parts):
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def list_of(*parts):
    return pickle.EMPTY_LIST + pickle.MARK + b"".join(parts) + pickle.APPENDS


def dict_of(*parts):
    return pickle.EMPTY_DICT + pickle.MARK + b"".join(parts) + pickle.SETITEMS


def call(module, qualname, *args):
    return name(module, qualname) + tuple_of(*args) + pickle.REDUCE


def whole(*parts):
    return pickle.PROTO + b"\5" + b"".join(parts) + pickle.STOP
