"""Which addresses a fetch may connect to: a pure policy, asked with the address that is connected to.

By default only what is public, on the ports that HTTP uses and on unprivileged ones. A URL comes from a user
and is opened by a server inside the site's network: without this it would read for him what the server alone can
reach, from a database on its loopback to the keys that a cloud hands out at 169.254.169.254.

An address that carries another one (IPv4 in IPv6) needs leave for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from stager.errors import SettingsError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

DEFAULT_PORTS = "80, 443, 1024-65535"
"""Below 1024 live mail, remote shells and directories, which all can be made to take a request for a command."""
PUBLIC = "public"
"""As the network of a rule: every address that may be reached without one."""

_LOOPBACK_KIND = "this machine (loopback)"
_NOT_PUBLIC: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(text), name)
    for text, name in (
        # RFC 6890 and its successors; the first one that fits names the address.
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "an address shared behind a NAT"),
        ("127.0.0.0/8", _LOOPBACK_KIND),
        (
            "168.63.129.16/32",
            "the address of a cloud's own services",
        ),  # Azure: in public space, but answered by the host below
        ("169.254.169.254/32", "the link-local address at which clouds hand out keys"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "an address reserved for protocols"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a relay to IPv6 (6to4)"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "the unspecified address"),
        ("::1/128", _LOOPBACK_KIND),
        ("::/96", "an IPv4-compatible address"),
        ("::ffff:0:0/96", "an IPv4-mapped address"),
        ("::ffff:0:0:0/96", "an IPv4-translated address"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("100::/64", "a black hole"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "an address reserved for protocols"),
        ("2001:db8::/32", "an address for documentation"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "an address for documentation"),
        ("fd00:ec2::254/128", "the private address at which a cloud hands out keys"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_LOOPBACK = IPv4Network("127.0.0.0/8")
_LOOPBACK_6 = IPv6Network("::1/128")
_LOW_32 = tuple(
    IPv6Network(text)
    for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
"""Networks whose addresses end in an IPv4 address."""
_TEREDO = IPv6Network("2001::/32")
_6TO4 = IPv6Network("2002::/16")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_32_BITS = 0xFFFF_FFFF


def embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses to which a gateway, or this host, may send what is sent to `address`."""
    if isinstance(address, IPv4Address):
        return ()
    bits = int(address)
    if any(address in network for network in _LOW_32):
        return () if bits <= 1 else (IPv4Address(bits & _32_BITS),)
    if address in _6TO4:
        return (IPv4Address(bits >> 80 & _32_BITS),)
    if address in _TEREDO:  # its server, and its client in disguise
        return (IPv4Address(bits >> 64 & _32_BITS), IPv4Address(~bits & _32_BITS))
    if bits >> 32 & _32_BITS in _ISATAP:
        return (IPv4Address(bits & _32_BITS),)
    return ()


def kind_of(address: Address) -> str:
    """What `address` is, in words; empty: public."""
    for network, name in _NOT_PUBLIC:
        if address in network:
            return name
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "a reserved address"
    return ""


@dataclass(frozen=True, slots=True)
class Ports:
    """A set of ports, as ``80, 443, 1024-65535``; ``none`` is the empty one.

    Raises:
        ValueError: it is not written like that.
    """

    text: str
    _ranges: tuple[range, ...] = ()

    def __post_init__(self) -> None:
        if self.text.strip() != "none":
            object.__setattr__(self, "_ranges", tuple(map(_port_range, self.text.split(","))))

    def __contains__(self, port: int) -> bool:
        return any(port in one for one in self._ranges)

    @property
    def are_none(self) -> bool:
        """Whether it is the empty set."""
        return not self._ranges


def _port_range(text: str) -> range:
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
        raise ValueError(f"{text.strip()!r} is neither a port nor a range of ports")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:  # noqa: PLR2004 - the ports there are
        raise ValueError(f"{text.strip()!r} is no range within 1-65535")
    return range(low, high + 1)


@dataclass(frozen=True, slots=True)
class OriginRule:
    """Leave for a host: ``*.portal.example 10.20.0.0/16 443``, or ``archive.example public 81``.

    Attributes:
        host: name as in the URL; ``*`` and ``?`` stand for any letters.
        network: where its addresses may be; None: anywhere public.
        ports: on which; None: those that are allowed anyway.
        text: as written.
    """

    host: re.Pattern[str]
    network: Network | None
    ports: Ports | None
    text: str

    @classmethod
    def parse(cls, text: str) -> OriginRule:
        """The rule that `text` says.

        Raises:
            ValueError: it says none.
        """
        words = text.replace(", ", ",").split()
        if not 2 <= len(words) <= 3:  # noqa: PLR2004 - as below
            raise ValueError("a rule is HOST NETWORK [PORTS], as in '*.portal.example 10.20.0.0/16 443'")
        host, network, *ports = words
        wild = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in _bare(host.lower()))
        return cls(
            re.compile(wild),
            None if network == PUBLIC else ip_network(network),
            Ports(ports[0]) if ports else None,
            text,
        )


class AddressPolicy:
    """What a site lets its fetches reach.

    Args:
        networks: that may be reached although they are not public, under any name. Whoever allows all of
            127.0.0.0/8 means this machine, so that goes for ::1 as well.
        origins: leave for single hosts.
        ports: that may be connected to; a rule with ports of its own goes first.
    """

    def __init__(
        self,
        networks: Iterable[Network] = (),
        origins: Iterable[OriginRule] = (),
        ports: Ports | None = None,
    ) -> None:
        self.networks = tuple(networks)
        self.origins = tuple(origins)
        self.ports = ports or Ports(DEFAULT_PORTS)
        mine = any(network.version == 4 and network.supernet_of(_LOOPBACK) for network in self.networks)  # noqa: PLR2004
        self._networks = (*self.networks, _LOOPBACK_6) if mine else self.networks

    @classmethod
    def of(cls, networks: Iterable[Network], origins: Iterable[str], ports: str) -> AddressPolicy:
        """The policy that the settings say.

        Raises:
            SettingsError: one of them makes no sense.
        """
        rules = []
        for text in origins:
            try:
                rules.append(OriginRule.parse(text))
            except ValueError as error:
                raise SettingsError(
                    f"setting allowed_origins = {text!r}",
                    cause=str(error),
                    remedy="write HOST NETWORK [PORTS]; see the how-to where a fetch may reach",
                ) from None
        try:
            return cls(networks, rules, Ports(ports))
        except ValueError as error:
            raise SettingsError(
                f"setting allowed_ports = {ports!r}",
                cause=str(error),
                remedy=f"write ports and ranges with commas, as in {DEFAULT_PORTS!r}",
            ) from None

    def refusal(self, host: str, address: Address, port: int, own: int = 0) -> Refusal | None:
        """Why a fetch from `host` may not connect to `address` and `port`; None: it may.

        `own` is the port of a scheme beside HTTP: who speaks that there sends no request to anything else.
        """
        own_port = port == own and not self.ports.are_none
        for one in (address, *embedded(address)):
            if not self._allows(host, one, port, own_port):
                kind = "" if self._in_network(one) else kind_of(one)
                return Refusal(host, address, port, kind, one)
        return None

    def _allows(self, host: str, address: Address, port: int, own_port: bool) -> bool:
        inside = not kind_of(address)
        if (own_port or port in self.ports) and (inside or self._in_network(address)):
            return True
        name = _bare(host)
        return any(
            rule.host.fullmatch(name)
            and (inside if rule.network is None else address in rule.network)
            and (port in (rule.ports or self.ports) or (own_port and rule.ports is None))
            for rule in self.origins
        )

    def _in_network(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def describe(self) -> Iterator[tuple[str, str]]:
        """What may be reached, for people: name and value, one after the other."""
        yield "networks", ", ".join(["public ones", *map(str, self.networks)])
        yield "ports", self.ports.text
        if self.origins:
            yield "hosts", "; ".join(rule.text for rule in self.origins)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not.

    Attributes:
        host: as in the URL.
        address: that would have been connected to.
        port: likewise.
        kind: what is wrong with `at`, in words; empty: it is the port.
        at: the address that has no leave; another one than `address` if it is carried by that.
    """

    host: str
    address: Address
    port: int
    kind: str
    at: Address

    @property
    def cause(self) -> str:
        """In words."""
        name, address, at = _bare(self.host), str(self.address), str(self.at)
        path = name if name == address else f"{name} is at {address}"
        if at != address:
            path += f", which leads to {at}"
        return f"{path}; {self.kind or f'port {self.port}'} is not allowed here"

    @property
    def setting(self) -> str:
        """The line of the settings that would give leave, to as little as it can."""
        if self.kind == _LOOPBACK_KIND:
            return f'allowed_networks = "{_LOOPBACK}"'
        network = f"{self.at}/{self.at.max_prefixlen}" if kind_of(self.at) else PUBLIC
        return f'allowed_origins = "{_bare(self.host)} {network} {self.port}"'


@lru_cache(maxsize=1024)
def _bare(host: str) -> str:
    """Without the brackets of an IPv6 address."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host
