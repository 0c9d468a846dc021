# SPDX-License-Identifier: GPL-2.0-or-later
"""The info file's text, and that no string of a dump can forge a line of it."""

from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.kerneldump.header import DumpHeader
from scapy_netdump.kerneldump.info import info_text
from scapy_netdump.layers import KernelDumpHeader
from scapy_netdump.text import printable, utc_date


def info(last_line: str = "Dump complete", **fields: object) -> list[str]:
    header = DumpHeader.unpack(bytes(KernelDumpHeader(**fields)))
    return info_text("crashbox", "192.0.2.2", header, last_line).split("\n")


def test_the_text_is_netdumpds() -> None:
    assert info(
        dumplength=3145728,
        dumptime=1718000000,
        hostname="crashbox.example.org",
        versionstring="FreeBSD 14.0\n    root@releng\n",
        panicstring="page fault",
        compression="zstd",
    ) == [
        "Dump from crashbox [192.0.2.2]",
        "  Architecture: amd64",
        "  Architecture Version: 2",
        "  Dump Length: 3145728B (3 MB)",
        "  Blocksize: 4096",
        "  Compression: zstd",
        "  Dumptime: Mon Jun 10 06:13:20 2024",
        "  Hostname: crashbox.example.org",
        "  Version String: FreeBSD 14.0\\n    root@releng",
        "  Panic String: page fault",
        "  Header Parity Check: Pass",
        "Dump complete",
        "",
    ]


def test_without_a_header_there_are_two_lines() -> None:
    assert info_text("h", "192.0.2.2", None, "Dump incomplete") == (
        "Dump from h [192.0.2.2]\nDump incomplete\n"
    )


def test_wrong_parity_and_magic_are_noted() -> None:
    lines = info(magic="Nothing", parity=1)
    assert "  Header Parity Check: Fail" in lines
    assert "  Header Magic Check: Fail: Nothing" in lines


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_no_string_can_add_a_line_or_a_control_character(
    hostname: str, versionstring: str, panicstring: str
) -> None:
    lines = info(hostname=hostname, versionstring=versionstring, panicstring=panicstring)
    assert len(lines) == 13
    assert all(line.isprintable() for line in lines)
    assert len("\n".join(lines).splitlines()) == 12


@given(st.text(), st.integers(0, 2**64 - 1))
def test_texts_are_one_printable_line(text: str, seconds: int) -> None:
    assert printable(text).isprintable()
    assert utc_date(seconds).isprintable()


def test_dates_end_with_the_year_9999() -> None:
    assert utc_date(0) == "Thu Jan  1 00:00:00 1970"
    assert utc_date(253402300799) == "Fri Dec 31 23:59:59 9999"
    assert utc_date(253402300800) == "253402300800 (no date)"
