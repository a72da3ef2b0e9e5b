"""Users, keys and certificates of NATS: they pass through, and the documented permissions suffice."""

import asyncio
import os
import shutil
import socket
import struct
import subprocess

import pytest
from aio_support import echo
from bridge_support import NatsServer, bridged, needs_nats, run
from support import WINDOWS

needs_nats()
if WINDOWS or os.environ.get("NPIPES_TEST_NATS"):
    pytest.skip("the NATS server of these tests has a configuration", allow_module_level=True)

import npipes.aio  # noqa: E402
import npipes.bridge  # noqa: E402


async def talks(pipe):
    async with npipes.aio.connect(pipe) as conn:
        assert await conn.call(b"hello") == b"hello"
        assert await conn.call(bytes(2 << 20)) == bytes(2 << 20)


# As in docs/bridge.md.
PERMISSIONS = """
authorization {
  users = [
    { user: serving, password: one, permissions: {
        subscribe: ["npipes.open.NAME", "npipes.up.NAME.>"]
        publish: ["npipes.down.NAME.>"]
        allow_responses: true } }
    { user: connecting, password: two, permissions: {
        subscribe: ["npipes.down.NAME.>", "_INBOX.>"]
        publish: ["npipes.open.NAME", "npipes.up.NAME.>"] } }
  ]
}
"""


def test_each_end_needs_the_permissions_of_its_role_only(pipe_name):
    with NatsServer(config=PERMISSIONS.replace("NAME", pipe_name)) as server:

        async def main():
            options = {
                "serving": {"nats_options": {"user": "serving", "password": "one"}},
                "connecting": {"nats_options": {"user": "connecting", "password": "two"}},
            }
            async with bridged(server.url, pipe_name, echo, **options):
                await talks(f"{pipe_name}-far")
            with pytest.raises(npipes.bridge.NatsLostError, match="(?i)authorization"):
                await npipes.bridge.serve(pipe_name, nats=server.url, timeout=1.0)

        run(main)


def test_a_server_that_says_why_is_quoted_whatever_follows(pipe_name):
    """The connection may break before or after its answer is read, and does so again each time."""
    info = b'INFO {"server_id": "x", "version": "2.9.0", "proto": 1, "max_payload": 1048576, "headers": true}\r\n'
    reset = struct.pack("ii", 1, 0)

    async def main():
        connections = 0

        async def refuse(reader, writer):
            nonlocal connections
            connections += 1
            if connections == 1:
                writer.write(info)
                await reader.readuntil(b"PING\r\n")
                writer.write(b"-ERR 'Authorization Violation'\r\n")
                await reader.read()
            else:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            url = "nats://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
            with pytest.raises(npipes.bridge.NatsLostError, match="(?i)authorization"):
                await npipes.bridge.serve(pipe_name, nats=url, timeout=1.5)
            assert connections > 1

    run(main)


def test_a_user_may_be_a_part_of_the_address(pipe_name):
    with NatsServer("--user", "ann", "--pass", "secret") as server:

        async def main():
            async with bridged(server.url.replace("//", "//ann:secret@"), pipe_name, echo):
                await talks(f"{pipe_name}-far")

        run(main)


def certificates(directory):
    """Of an authority, a server and a client; files by name."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make certificates")

    def call(*args):
        subprocess.run([openssl, *args], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    # Python 3.13 and later want what RFC 5280 says that a certificate has.
    call(
        *new,
        "-x509",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=ca",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    )
    (directory / "extensions").write_text(
        "subjectAltName=IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    for name in ("server", "client"):
        call(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        call(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-extfile",
            "extensions",
        )
    return directory


def test_tls_with_certificates_of_both_sides_and_nkeys(pipe_name, tmp_path):
    nkeys = pytest.importorskip("nkeys", reason="nkeys is not installed")
    import ssl

    files = certificates(tmp_path)
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    (files / "user.nk").write_bytes(seed)
    config = f"""
    tls {{ cert_file: "{files}/server.pem", key_file: "{files}/server.key",
           ca_file: "{files}/ca.pem", verify: true }}
    authorization {{ users = [ {{ nkey: {public} }} ] }}
    """
    context = ssl.create_default_context(cafile=files / "ca.pem")
    context.load_cert_chain(files / "client.pem", files / "client.key")
    with NatsServer(config=config) as server:

        async def main():
            options = {"tls": context, "nkeys_seed": str(files / "user.nk")}
            async with bridged(server.url, pipe_name, echo, nats_options=options):
                await talks(f"{pipe_name}-far")
            stranger = {"tls": ssl.create_default_context(), "nkeys_seed": str(files / "user.nk")}
            with pytest.raises(npipes.bridge.NatsLostError, match="(?i)certificate"):
                await npipes.bridge.serve(pipe_name, nats=server.url, nats_options=stranger, timeout=1.0)

        run(main)
