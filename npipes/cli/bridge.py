"""The command line: `npipes bridge serve NAME`, `npipes bridge connect NAME`."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from npipes.cli.common import Commands, access, add_authkey, authkey_of, new_command

if TYPE_CHECKING:
    from npipes.bridge import Endpoint


def add(commands: Commands) -> None:
    bridge = new_command(
        commands,
        "bridge",
        run,
        "the same clients and servers across hosts, over NATS",
        "npipes bridge serve demo --nats nats://hub\nnpipes bridge connect demo --nats nats://hub",
    )
    roles = bridge.add_subparsers(dest="role", required=True, metavar="serve|connect")
    serve = roles.add_parser("serve", help="beside a server: let other hosts reach its pipe")
    connect = roles.add_parser("connect", help="beside clients: offer a pipe of another host here")
    for role in (serve, connect):
        _add_common(role)
    connect.add_argument(
        "--access",
        type=access,
        default="user",
        help="who may connect here, as in npipes serve: user (default), everyone, ...",
    )
    serve.add_argument("--durable", default="npipes", metavar="NAME", help="with --jetstream: the consumer's name")


def _add_common(role: argparse.ArgumentParser) -> None:
    role.add_argument("name", help="the name on NATS, and of the pipe here")
    role.add_argument("--pipe", metavar="ADDRESS", help="another name or address of the pipe here")
    role.add_argument(
        "--nats",
        action="append",
        metavar="URL",
        help="a NATS server, may be repeated (default nats://127.0.0.1:4222)",
    )
    role.add_argument("--creds", metavar="FILE", help="credentials of a user of NATS")
    role.add_argument("--nkey", metavar="FILE", help="the seed of an NKey")
    role.add_argument("--tls-ca", metavar="FILE", help="who may have signed the NATS server's certificate")
    role.add_argument("--tls-cert", metavar="FILE", help="the certificate of this bridge")
    role.add_argument("--tls-key", metavar="FILE", help="its private key")
    role.add_argument("--prefix", help="of all subjects (default npipes)")
    role.add_argument(
        "--heartbeat",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="a tunnel is given up after three of them in silence (default 5)",
    )
    role.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="to reach NATS and a server (default 5)",
    )
    add_authkey(role)
    role.add_argument(
        "--announce",
        action="store_true",
        help="the first message of each connection here tells who is on the other host",
    )
    role.add_argument(
        "--jetstream",
        action="store_true",
        help="one-way messages that JetStream stores and delivers at least once, in order",
    )
    role.add_argument("--stream", metavar="NAME", help="with --jetstream: the stream")
    role.add_argument(
        "--confirm",
        action="store_true",
        help="with --jetstream: stored, or handled, counts when an answer says so",
    )
    role.add_argument("--quiet", action="store_true", help="print failures only")


def run(args: argparse.Namespace) -> int:
    """Runs a bridge until Ctrl-C or SIGTERM.  0 after that, 1 when it could not be started."""
    # Here: a command line that bridges nothing need not load what bridges.
    import logging

    from npipes.bridge import running

    logging.basicConfig(
        format="%(message)s",
        level=logging.WARNING if args.quiet else logging.INFO,
        stream=sys.stdout,
    )
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # what it says comes here as well
    try:
        endpoint = _endpoint(args)
    except (ValueError, TypeError, OSError) as error:
        print(f"npipes bridge: {error}", file=sys.stderr)
        return 1
    return running.run(endpoint, f"bridge {args.role} {args.name}")


def _endpoint(args: argparse.Namespace) -> "Endpoint":
    import npipes.bridge

    options: dict[str, Any] = {
        "pipe": args.pipe,
        "nats_options": _nats_options(args),
        "heartbeat": args.heartbeat,
        "timeout": args.timeout,
        "authkey": authkey_of(args),
    }
    if args.nats:
        options["nats"] = args.nats
    if args.prefix:
        options["prefix"] = args.prefix
    if args.role == "connect":
        options["access"] = args.access
    if args.jetstream:
        if args.announce:
            raise ValueError("--announce has no use with --jetstream: there is no single client")
        options |= {"stream": args.stream, "confirm": args.confirm}
        if args.role == "connect":
            return npipes.bridge.store(args.name, **options)
        return npipes.bridge.deliver(args.name, durable=args.durable, **options)
    if args.stream or args.confirm:
        raise ValueError("--stream and --confirm are for --jetstream")
    options["announce"] = args.announce
    if args.role == "connect":
        return npipes.bridge.connect(args.name, **options)
    return npipes.bridge.serve(args.name, **options)


def _nats_options(args: argparse.Namespace) -> dict[str, Any]:
    """What nats.connect() is to get of TLS, credentials and keys."""
    options: dict[str, Any] = {}
    if args.creds:
        options["user_credentials"] = args.creds
    if args.nkey:
        options["nkeys_seed"] = args.nkey
    if args.tls_key and not args.tls_cert:
        raise ValueError("--tls-key needs --tls-cert")
    if args.tls_ca or args.tls_cert:
        import ssl

        context = ssl.create_default_context(cafile=args.tls_ca)
        if args.tls_cert:
            context.load_cert_chain(args.tls_cert, args.tls_key)
        options["tls"] = context
    return options
