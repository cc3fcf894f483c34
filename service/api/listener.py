"""The socket that the service listens on."""

import ipaddress
import socket

from service.errors import ServiceError, UnsafeBind


class CannotListen(ServiceError):
    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on port {port} of {host}: {reason}")
        self.host, self.port = host, port


def bound(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    """A socket bound to the address; port 0 takes a free one.

    Raises UnsafeBind for an address that other machines reach, unless that is allowed, or CannotListen.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(host, port, error.strerror or "there is no such host") from error
    # IPv4 first: `localhost` is both, and most clients ask for 127.0.0.1.
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    if not allow_remote and not ipaddress.ip_address(address[0]).is_loopback:
        raise UnsafeBind(host)
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise CannotListen(host, port, error.strerror or str(error)) from error
    return opened


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
