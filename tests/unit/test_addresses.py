from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stager.errors import SettingsError
from stager.settings import Settings, load_settings
from stager.transfer.addresses import DEFAULT_PORTS, AddressPolicy, OriginRule, Ports, embedded, kind_of

PUBLIC_ONLY = AddressPolicy()


def may(policy: AddressPolicy, address: str, host: str = "h.example", port: int = 443) -> bool:
    return policy.refusal(host, ip_address(address), port) is None


REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "64:ff9b:1:ffff::10.0.0.1", "100::1",
    "2001::1", "2001:0:808:808::", "2001:db8::1", "2001:2::1", "2001:20::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "4000::1", "fc00::1", "fd00:ec2::254", "fdff::1", "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
    "2a00:1450::5efe:10.0.0.1", "2a00:1450::200:5efe:127.0.0.1",
]  # fmt: skip
ALLOWED = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.1", "169.253.0.1", "172.15.255.255", "172.32.0.0", "192.167.1.1", "192.169.1.1", "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "2a00:1450::5efe:8.8.8.8", "3ffe::1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_points_78_and_79_what_is_not_public_is_refused_by_default(address: str) -> None:
    refusal = PUBLIC_ONLY.refusal("h.example", ip_address(address), 443)
    assert refusal is not None
    assert str(ip_address(address)) in refusal.cause
    assert "h.example" in refusal.cause


@pytest.mark.parametrize("address", ALLOWED)
def test_what_is_public_is_allowed(address: str) -> None:
    assert may(PUBLIC_ONLY, address)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
@example(ip_address("192.88.99.1"))
@example(ip_address("ff0e::1"))
def test_point_79_the_policy_is_never_laxer_than_python_and_judges_what_is_carried(
    address: IPv4Address | IPv6Address,
) -> None:
    if PUBLIC_ONLY.refusal("h", address, 443) is None:
        assert address.is_global
        assert not address.is_multicast
        assert all(inner.is_global for inner in embedded(address))


@given(st.ip_addresses(v=4))
def test_point_79_an_ipv4_address_inside_another_one_needs_leave_too(inner: IPv4Address) -> None:
    bits = int(inner)
    carriers = {
        "64:ff9b::/96": int(IPv6Address("64:ff9b::")) | bits,
        "::ffff:0:0/96": int(IPv6Address("::ffff:0:0")) | bits,
        "2002::/16": int(IPv6Address("2002::")) | bits << 80,
        "2001::/32": int(IPv6Address("2001::")) | int(IPv4Address("8.8.8.8")) << 64 | (bits ^ 0xFFFFFFFF),
    }
    for network, whole in carriers.items():
        address = IPv6Address(whole)
        assert inner in embedded(address)
        policy = AddressPolicy([ip_network(network)])
        assert (policy.refusal("h", address, 443) is None) == (kind_of(inner) == "")


def test_whoever_allows_the_loopback_means_this_machine_with_both_its_addresses() -> None:
    policy = AddressPolicy([ip_network("127.0.0.0/8")])
    assert may(policy, "127.0.0.1")
    assert may(policy, "::1")
    assert not may(policy, "10.0.0.1")
    assert not may(policy, "::ffff:127.0.0.1")
    assert not may(AddressPolicy([ip_network("127.0.0.1/32")]), "::1")
    assert not may(AddressPolicy([ip_network("::1/128")]), "127.0.0.1")


RULE = "*.portal.example 10.20.0.0/16 443,8443"


@pytest.mark.parametrize(
    ("host", "address", "port", "allowed"),
    [
        ("a.portal.example", "10.20.1.1", 443, True),
        ("a.b.portal.example", "10.20.1.1", 8443, True),
        ("a.portal.example", "10.20.1.1", 80, False),
        ("a.portal.example", "10.21.1.1", 443, False),
        ("portal.example", "10.20.1.1", 443, False),
        ("a.portal.example.evil.org", "10.20.1.1", 443, False),
        ("a.portalxexample", "10.20.1.1", 443, False),
        ("evil.org", "10.20.1.1", 443, False),
        ("a.portal.example", "8.8.8.8", 443, True),
        ("a.portal.example", "127.0.0.1", 443, False),
    ],
)
def test_point_79_a_private_network_is_reached_only_by_the_host_network_and_port_that_a_rule_names(
    host: str, address: str, port: int, allowed: bool
) -> None:
    policy = AddressPolicy(origins=[OriginRule.parse(RULE)])
    assert may(policy, address, host, port) is allowed


def test_a_rule_may_name_an_ipv6_address_and_its_network() -> None:
    policy = AddressPolicy(origins=[OriginRule.parse("[fd12::7] fd12::/16 443")])
    assert may(policy, "fd12::7", "[fd12::7]")
    assert not may(policy, "fd12::8", "[fd12::8]")


@pytest.mark.parametrize(
    ("port", "allowed"),
    [
        (80, True),
        (443, True),
        (1024, True),
        (8443, True),
        (65535, True),
        (22, False),
        (25, False),
        (1023, False),
    ],
)
def test_point_80_only_the_usual_ports_and_unprivileged_ones_are_connected_to(
    port: int, allowed: bool
) -> None:
    assert may(PUBLIC_ONLY, "8.8.8.8", port=port) is allowed


def test_point_80_a_list_of_ports_replaces_the_default_and_a_rule_goes_before_both() -> None:
    policy = AddressPolicy.of((), ["odd.example public 81", "plain.example public"], "443")
    assert may(policy, "8.8.8.8", port=443)
    assert not may(policy, "8.8.8.8", port=80)
    assert may(policy, "8.8.8.8", "odd.example", 81)
    assert not may(policy, "10.0.0.1", "odd.example", 81)
    assert not may(policy, "8.8.8.8", "plain.example", 81)
    closed = AddressPolicy.of((), ["odd.example public 81"], "none")
    assert not may(closed, "8.8.8.8")
    assert may(closed, "8.8.8.8", "odd.example", 81)


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        ("a.example", "10.1.2.3", 443),
        ("a.example", "fd00::1", 8080),
        ("[fd00::1]", "fd00::1", 443),
        ("a.example", "8.8.8.8", 22),
        ("a.example", "10.1.2.3", 22),
        ("localhost", "127.0.0.1", 8000),
        ("localhost", "::1", 8000),
        ("a.example", "2a00::5efe:10.0.0.1", 443),
    ],
)
def test_the_line_that_a_refusal_names_gives_leave(host: str, address: str, port: int) -> None:
    refusal = PUBLIC_ONLY.refusal(host, ip_address(address), port)
    assert refusal is not None
    name, _, value = refusal.setting.partition(" = ")
    settings = load_settings(**{name: value.strip('"')})
    policy = AddressPolicy.of(settings.allowed_networks, settings.allowed_origins, settings.allowed_ports)
    assert may(policy, address, host, port)
    assert not may(policy, "192.168.0.1", host, port)


@pytest.mark.parametrize(
    ("networks", "origins", "ports", "said"),
    [
        ((), ["portal.example"], "80", "a rule is HOST NETWORK"),
        ((), ["portal.example 10.0.0.0/8 443 80"], "80", "a rule is HOST NETWORK"),
        ((), ["portal.example 10.0.0.1/8"], "80", "host bits set"),
        ((), ["portal.example inside"], "80", "'inside'"),
        ((), ["portal.example public 0"], "80", "'0' is no range within 1-65535"),
        ((), [], "http", "'http' is neither a port"),
        ((), [], "", "'' is neither a port"),
        ((), [], "90-80", "'90-80' is no range"),
        ((), [], "80-", "neither|no range"),
        ((), [], "70000", "no range within"),
        ((), [], "\u0663", "neither a port"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_its_setting(
    networks: tuple[()], origins: list[str], ports: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        AddressPolicy.of(networks, origins, ports)
    assert ("allowed_origins" if origins else "allowed_ports") in caught.value.what


def test_ports_are_written_with_or_without_spaces() -> None:
    for text in ("80,443,8000-8100", " 80 , 443 ,8000 - 8100"):
        ports = Ports(text)
        assert all(port in ports for port in (80, 443, 8000, 8050, 8100))
        assert all(port not in ports for port in (0, 81, 7999, 8101))


def test_the_settings_have_the_defaults_of_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAGER_ALLOWED_NETWORKS")
    settings = Settings()
    assert settings.allowed_ports == DEFAULT_PORTS
    assert settings.allowed_networks == settings.allowed_origins == ()


@pytest.mark.parametrize("own", [21, 22])
def test_a_scheme_beside_http_may_use_its_own_port_and_http_may_not(own: int) -> None:
    public, private = ip_address("8.8.8.8"), ip_address("10.0.0.1")
    assert PUBLIC_ONLY.refusal("h", public, own, own) is None
    assert PUBLIC_ONLY.refusal("h", public, own) is not None
    assert PUBLIC_ONLY.refusal("h", public, 25, own) is not None
    assert PUBLIC_ONLY.refusal("h", private, own, own) is not None
    assert AddressPolicy.of([], [], "none").refusal("h", public, own, own) is not None
    assert AddressPolicy.of([], ["h 10.0.0.0/8"], DEFAULT_PORTS).refusal("h", private, own, own) is None
    assert (
        AddressPolicy.of([], ["h 10.0.0.0/8 2222"], DEFAULT_PORTS).refusal("h", private, own, own) is not None
    )
