"""Integration tests against a real pipe and a warehouse that the test makes up."""

import json

import npipes
import pytest
from orders import OutOfStock, Warehouse, watch


class FakeWarehouse(npipes.Server):
    """Keeps a stock, and what it was asked."""

    def __init__(self, name, stock=()):
        super().__init__(name)
        self.stock = dict(stock)
        self.requests = []

    def on_message(self, conn, data, cookie):
        request = json.loads(data)
        self.requests.append(request)
        left = self.stock[request["article"]] - request["count"]
        if left < 0:
            conn.write(b'{"error": "out of stock"}')
        else:
            self.stock[request["article"]] = left
            conn.write(json.dumps({"left": left}).encode())


@pytest.fixture
def server(pipe_server):
    return pipe_server(FakeWarehouse, stock={"chair": 3})


@pytest.fixture
def warehouse(server):
    warehouse = Warehouse(server.address, timeout=10)
    yield warehouse
    warehouse.close()


def test_a_reservation_says_what_is_left(server, warehouse):
    assert warehouse.reserve("chair", 2) == 1
    assert server.requests == [{"article": "chair", "count": 2}]


def test_too_many_are_refused(warehouse):
    with pytest.raises(OutOfStock, match="chair"):
        warehouse.reserve("chair", 4)


def test_a_warehouse_that_says_nothing_is_not_waited_for(pipe_server):
    silent = pipe_server()
    warehouse = Warehouse(silent.address, timeout=0.2)
    try:
        with pytest.raises(TimeoutError):
            warehouse.reserve("chair", 1)
    finally:
        warehouse.close()


def test_there_is_no_warehouse(pipe_name):
    with pytest.raises(FileNotFoundError):
        Warehouse(pipe_name, timeout=0)


@pytest.mark.asyncio
async def test_changes_are_watched(aio_pipe_server):
    async def handler(conn):
        for article in (b"chair", b"table"):
            await conn.send(article)

    seen = []
    async with aio_pipe_server(handler) as server:
        await watch(server.address, seen.append)
    assert seen == ["chair", "table"]
