# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients are called in file names."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.store.hosts import address_bytes, address_text, file_host, host_name


@pytest.mark.parametrize("text", ["10.99.0.2", "2001:db8::2", "::", "255.255.255.255"])
def test_addresses_are_packed_and_unpacked(text: str) -> None:
    assert address_text(address_bytes(text)) == text


@pytest.mark.parametrize("text", ["", "10.1", "10.0.0.256", "host", "::g", "fe80::1%em0", "1\n"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an IPv4 or IPv6 address"):
        address_bytes(text)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("panicky.example.org", "panicky"),
        ("panicky", "panicky"),
        ("a_b-3.example.org", "a_b-3"),
        ("../../etc/passwd", "192.0.2.1"),
        ("a/b.example.org", "192.0.2.1"),
        (".hidden", "192.0.2.1"),
        ("-o.example.org", "192.0.2.1"),
        ("x\n.example.org", "192.0.2.1"),
        ("x" * 64 + ".example.org", "192.0.2.1"),
        ("", "192.0.2.1"),
    ],
)
def test_a_name_is_taken_only_if_it_is_fit_for_a_file(
    answer: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver's answer comes from the network."""
    monkeypatch.setattr(socket, "gethostbyaddr", lambda address: (answer, [], [address]))
    assert host_name("192.0.2.1") == name


@pytest.mark.parametrize(
    "error", [socket.herror(1, "Unknown host"), UnicodeError("label too long")]
)
def test_without_a_name_it_is_the_address(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(socket, "gethostbyaddr", fail)
    assert host_name("192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("address", "name", "host"),
    [
        ("10.99.0.2", "", "10.99.0.2"),
        ("10.99.0.2", "panicky", "panicky"),
        ("10.99.0.2", "panicky.example.org", "10.99.0.2"),
        ("2001:0DB8::0002", "", "2001:db8::2"),
        ("::ffff:10.99.0.2", "", "::ffff:10.99.0.2"),
        ("fe80::1%em0", "", "fe80::1%em0"),
        ("fe80::1%vlan0.7", "", "fe80::1%vlan0_7"),
        ("fe80::1%../../x", "", "fe80::1%______x"),
        ("fe80::1%" + "x" * 300, "", "fe80::1%" + "x" * 32),
    ],
)
def test_what_stands_in_file_names(address: str, name: str, host: str) -> None:
    assert file_host(address, name) == host


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_name_and_no_scope_means_anything_in_a_path(name: str, scope: str) -> None:
    host = file_host(f"fe80::1%{scope}", name)
    assert "/" not in host
    assert not host.startswith(".")
    assert host.isascii()
    assert host.isprintable()
    with pytest.raises(ValueError, match="not an IPv4"):
        file_host(f"/{scope}", "/")
