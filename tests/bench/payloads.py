#!/usr/bin/env python3
"""What reading safely costs beside pickle, and what a large buffer costs in a payload and beside it.

Ratios are of one run, the best of several rounds. Peaks are of Python's own memory (tracemalloc), each in rounds of its own.
"""

import datetime
import decimal
import pickle
import time
import tracemalloc
import uuid

import npipes

ROUNDS = 7
SIZE = 64 << 20

VALUES = {
    "one int": 5,
    "small dict": {"id": 5, "name": "x", "values": [1, 2, 3.5], "ok": True},
    "100 dicts": [{"id": i, "name": str(i), "values": [i, i * 2.5]} for i in range(100)],
    "1e6 ints": list(range(10**6)),
    "2e5 keys of text": {str(i): i for i in range(200_000)},
    "2e5 keys of numbers": {i: None for i in range(200_000)},
    "1e5 keys of tuples": {(i, str(i)): i for i in range(100_000)},
    "16 MiB of bytes": bytes(16 << 20),
    "1000 datetimes": [datetime.datetime(2024, 1, 1) + datetime.timedelta(i) for i in range(1000)],
    "1000 decimals": [decimal.Decimal(i) / 7 for i in range(1000)],
    "1000 UUIDs": [uuid.UUID(int=i) for i in range(1000)],
}


def seconds(function, *args):
    """Of one call, in a round of at least 20 ms."""
    count, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < 0.02:
        function(*args)
        count += 1
    return spent / count


def peak(function, *args):
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def reading():
    print(f"{'':22}{'pickle.loads':>14}{'npipes.loads':>14}{'ratio':>8}")
    for label, value in VALUES.items():
        data = npipes.dumps(value)
        assert npipes.loads(data) == value
        theirs, ours = (
            min(pair) for pair in zip(*((seconds(pickle.loads, data), seconds(npipes.loads, data)) for _ in range(ROUNDS)))
        )
        print(f"{label:22}{theirs * 1e6:11.2f} us{ours * 1e6:11.2f} us{ours / theirs:8.2f}")


def buffers():
    bag = npipes.PropertyBag()
    bag["in"] = bytearray(SIZE)
    apart = npipes.PropertyBag()
    apart["out"] = pickle.PickleBuffer(bag["in"])
    contents, beside = bag.contents, []
    data = npipes.dumps(apart, beside.append)
    print(f"\n{SIZE >> 20} MiB in a bag{'':16}{'time':>10}{'peak memory':>16}")
    for label, function, *args in (
        ("contents", lambda: bag.contents),
        ("set contents", npipes.PropertyBag, contents),
        ("dumps, out of band", npipes.dumps, apart, [].append),
        ("loads, out of band", npipes.loads, data, beside),
    ):
        best = min(seconds(function, *args) for _ in range(ROUNDS))
        print(f"{label:30}{best * 1e3:10.3f} ms{peak(function, *args) / (1 << 20):12.2f} MiB")


if __name__ == "__main__":
    reading()
    buffers()
