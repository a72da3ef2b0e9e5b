"""Three hosts: network namespaces, linked by pairs of virtual Ethernet interfaces.

The first has the NATS server and the bridge of the clients, the others a server and its bridge
each.  The bridges are the commands that a user runs.  Pipes are files, which all namespaces share,
so the clients are in this process.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time

import pytest
from aio_support import until
from bridge_support import NatsServer, needs_nats, numbered, run
from support import TIMEOUT, WINDOWS, child_environment

if WINDOWS:
    pytest.skip("network namespaces are Linux's", allow_module_level=True)
needs_nats()

import npipes.aio  # noqa: E402

ECHO = """
import asyncio, sys, npipes.aio
async def echo(conn):
    async for message in conn:
        await conn.send(message)
async def main():
    async with npipes.aio.serve(echo, "demo") as server:
        await server.serve_forever()
asyncio.run(main())
"""
NETWORK = "10.251.77"


def ip(*args):
    done = subprocess.run(["ip", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(args)}: {done.stderr.strip()}")


class Host:
    """A network namespace and the processes in it."""

    def __init__(self, number, directory):
        self.name = f"np{os.getpid()}-{number}"
        self.address = f"{NETWORK}.{number}"
        self.directory = os.path.join(directory, str(number))
        self.link = f"np{os.getpid() % 100_000}v{number}"
        self.processes = []
        os.mkdir(self.directory, 0o700)
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")

    @property
    def prefix(self):
        return ["ip", "netns", "exec", self.name]

    def start(self, *command):
        environment = child_environment(NPIPES_DIR=self.directory)
        process = subprocess.Popen(
            [*self.prefix, *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def bridge(self, role, url):
        command = [sys.executable, "-m", "npipes", "bridge", role, "demo", "--nats", url, "--heartbeat", "1", "--timeout", "3"]
        process = self.start(*command)
        line = process.stdout.readline().decode()
        assert "running until" in line, line + process.stdout.read().decode()
        return process

    def serve(self, url):
        self.start(sys.executable, "-c", ECHO)
        self.bridge("serve", url)

    def kill(self):
        # The bridge first: it is not to see its server's end, which for a pipe is an orderly one.
        for process in reversed(self.processes):
            process.kill()
            process.communicate()
        self.processes.clear()

    def set_link(self, state):
        ip("-n", self.name, "link", "set", self.link, state)

    def close(self):
        self.kill()
        with contextlib.suppress(OSError):
            ip("netns", "del", self.name)


class Hosts:
    def __init__(self, directory):
        self.all = []
        self.nats = None
        try:
            self.hub, self.one, self.two = (self._add(number, directory) for number in (1, 2, 3))
            self._wire()
            self.nats = NatsServer(host=self.hub.address, prefix=self.hub.prefix).start()
            self.one.serve(self.nats.url)
            self.two.serve(self.nats.url)
            self.hub.bridge("connect", self.nats.url)
        except BaseException:
            self.close()
            raise
        self.pipe = os.path.join(self.hub.directory, "demo")

    def _add(self, number, directory):
        host = Host(number, directory)
        self.all.append(host)
        return host

    def _wire(self):
        hub = self.hub
        ip("-n", hub.name, "link", "add", "br0", "type", "bridge")
        ip("-n", hub.name, "addr", "add", f"{hub.address}/24", "dev", "br0")
        ip("-n", hub.name, "link", "set", "br0", "up")
        for host in (self.one, self.two):
            ip("-n", host.name, "link", "add", host.link, "type", "veth", "peer", "name", host.link, "netns", hub.name)
            ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.link)
            ip("-n", host.name, "link", "set", host.link, "up")
            ip("-n", hub.name, "link", "set", host.link, "master", "br0", "up")

    def close(self):
        for host in reversed(self.all):
            host.kill()
        if self.nats is not None:
            self.nats.kill()
            self.nats.stop()
        for host in self.all:
            host.close()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("making network namespaces takes root")
    if shutil.which("ip") is None:
        pytest.skip("there is no ip (package iproute2)")
    name = f"np{os.getpid()}-0"
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "br0", "type", "bridge")
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        with contextlib.suppress(OSError):
            ip("netns", "del", name)
    directory = tmp_path_factory.mktemp("h")
    hosts = Hosts(str(directory))
    yield hosts
    hosts.close()


class Traffic:
    """Connections that send numbered messages and check what comes back."""

    def __init__(self, pipe, count, size=3000):
        self.pipe, self.size = pipe, size
        self.received = [0] * count
        self.errors = [None] * count
        self.tasks = [asyncio.create_task(self._run(index)) for index in range(count)]
        self.stopping = False

    async def _run(self, index):
        try:
            async with npipes.aio.connect(self.pipe) as conn:
                sent = 0
                while True:
                    while sent < self.received[index] + 10 and not self.stopping:
                        await conn.send(numbered(sent, self.size))
                        sent += 1
                    if self.stopping and sent == self.received[index]:
                        return
                    assert await conn.recv() == numbered(self.received[index], self.size)
                    self.received[index] += 1
        except npipes.ConnectionClosed:
            self.errors[index] = "an orderly end, with messages that were not answered"
        except npipes.PipeError as error:
            self.errors[index] = error

    async def flows(self, indexes=None, more=5):
        """Waits until messages of each connection, or of those that are left, have come back."""
        marks = list(self.received)
        indexes = range(len(marks)) if indexes is None else indexes
        await until(lambda: all(self.received[i] >= marks[i] + more for i in indexes))

    @property
    def failed(self):
        return [index for index, error in enumerate(self.errors) if error is not None]

    @property
    def alive(self):
        return [index for index, error in enumerate(self.errors) if error is None]

    async def stop(self):
        """Every message that was sent comes back, then the connections end."""
        self.stopping = True
        await asyncio.gather(*self.tasks)


async def served_by_both(pipe):
    """Waits until new connections are answered one after the other, whichever host they get."""
    good, end = 0, time.monotonic() + 2 * TIMEOUT
    while good < 12:
        assert time.monotonic() < end, "a host does not serve again"
        try:
            async with asyncio.timeout(5), npipes.aio.connect(pipe) as conn:
                await conn.call(b"there")
            good += 1
        except (npipes.PipeError, TimeoutError):
            good = 0


def test_a_client_reaches_servers_on_two_other_hosts(hosts):
    async def main():
        async with npipes.aio.connect(hosts.pipe) as conn:
            for size in (0, 1, 70_000, 3 << 20):
                assert await conn.call(numbered(9, size)) == numbered(9, size)
        traffic = Traffic(hosts.pipe, 20)
        await traffic.flows()
        await traffic.stop()
        assert traffic.failed == []

    run(main)


def test_a_link_that_is_cut_for_a_moment_loses_nothing(hosts):
    async def main():
        traffic = Traffic(hosts.pipe, 10)
        await traffic.flows()
        hosts.one.set_link("down")
        await asyncio.sleep(0.3)
        hosts.one.set_link("up")
        await traffic.flows()
        await traffic.stop()
        assert traffic.failed == []

    run(main)


def test_a_link_that_is_cut_ends_the_connections_over_it_with_an_error(hosts):
    async def main():
        traffic = Traffic(hosts.pipe, 10)
        await traffic.flows()
        hosts.one.set_link("down")
        try:
            # Three heartbeats later: those over the other link go on.
            await until(lambda: traffic.failed)
            await asyncio.sleep(0.5)
            assert traffic.failed and traffic.alive
            await traffic.flows(traffic.alive)
        finally:
            hosts.one.set_link("up")
        await served_by_both(hosts.pipe)
        await traffic.stop()
        assert all(isinstance(traffic.errors[index], npipes.PipeError) for index in traffic.failed)

    run(main)


def test_a_serving_host_that_dies_ends_its_own_connections_only(hosts):
    async def main():
        traffic = Traffic(hosts.pipe, 10)
        await traffic.flows()
        hosts.two.kill()
        await until(lambda: traffic.failed)
        await asyncio.sleep(0.5)
        assert traffic.alive
        await traffic.flows(traffic.alive)
        async with npipes.aio.connect(hosts.pipe) as conn:
            assert await conn.call(b"the other host") == b"the other host"
        await traffic.stop()
        assert all(isinstance(traffic.errors[index], npipes.PipeError) for index in traffic.failed)

    run(main)
