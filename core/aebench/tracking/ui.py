"""Serves the MLflow UI of a store, by default to this machine alone."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from aebench.errors import AebenchError
from aebench.tracking.connection import check_answers

EXPOSED = (
    "anybody who reaches {host}:{port} can read and delete all results, without a password; MLflow answers requests "
    "to this machine's name only where MLFLOW_SERVER_ALLOWED_HOSTS lists it"
)


def serve_ui(uri: str, host: str, port: int, say: Callable[[str], None], warn: Callable[[str], None]) -> NoReturn:
    """Become the MLflow server of a store.

    Args:
        uri: of the store, which is a database.
        host: the address or name to listen on.
        port: the port to listen on.
        say: prints where the UI is.
        warn: prints that others can reach it, where they can.

    Raises:
        AebenchError: the store does not answer, or the address cannot be listened on.
    """
    check_answers(uri)
    addresses = _addresses(host, port)
    name = f"[{host}]" if ":" in host else host
    say(f"MLflow UI of {uri}: http://{name}:{port} (stop with Ctrl-C)")
    if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        warn(EXPOSED.format(host=name, port=port))
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, f"--host={host}", f"--port={port}"]
    os.execv(sys.executable, [*command, "--workers", "1"])  # one user needs one


def _addresses(host: str, port: int) -> list[str]:
    """The addresses that a host stands for; each can be listened on."""
    try:
        if not host:
            raise OSError("it is empty")
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AebenchError(
            f"the UI cannot listen on host '{host}', port {port} ({reason}); choose others with --host and --port"
        ) from error
    return [str(address[0]).partition("%")[0] for *_, address in found]
