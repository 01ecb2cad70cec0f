"""Allow connections to public addresses only, unless a recipe allows the host; checked at each connection.

Proxies from the environment are not used: a proxy resolves names itself, out of reach of this check.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

import httpcore
import httpx

from tasks.collect.sources.allowance import Allowance, LimitedStream
from tasks.core.errors import SourceError

NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, also for IPv4 addresses embedded in IPv6 ones."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour
        if inside is None and ip in NAT64:
            inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
        if ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def require_public(host: str, addresses: Iterable[str], allow_hosts: Iterable[str]) -> None:
    if host.lower() in {allowed.lower().strip("[]") for allowed in allow_hosts}:
        return
    for address in addresses:
        if not is_public(address):
            remedy = f"if the recipe may read from there, write allow_hosts: [{host}]"
            raise SourceError(f"{host} is at {address}, which is not a public address", where=host, remedy=remedy)


class CheckedBackend(httpcore.SyncBackend):
    """Connects to the very address that it checked, so that a name that later resolves differently does no harm."""

    def __init__(self, allow_hosts: Iterable[str], allowance: Allowance) -> None:
        self.allow_hosts, self.allowance = tuple(allow_hosts), allowance

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host} cannot be resolved: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        require_public(host, addresses, self.allow_hosts)
        failure: Exception = httpcore.ConnectError(f"the name {host} has no address")
        for address in addresses:
            try:
                wait = self.allowance.wait(timeout)
                stream = super().connect_tcp(address, port, wait, local_address, socket_options)
                return LimitedStream(stream, self.allowance)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class CheckedTransport(httpx.HTTPTransport):
    """httpx over ``CheckedBackend``; ``SSL_CERT_FILE`` names trusted certificates, as usual."""

    def __init__(self, allow_hosts: Iterable[str], allowance: Allowance) -> None:
        context = httpx.create_ssl_context()
        super().__init__(verify=context, trust_env=False)
        backend = CheckedBackend(allow_hosts, allowance)
        self._pool = httpcore.ConnectionPool(ssl_context=context, network_backend=backend)
