# SPDX-License-Identifier: GPL-2.0-or-later
"""The info file's text, and that no string of a dump can forge a line of it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.kerneldump.header import DumpHeader
from scapy_netdump.kerneldump.info import info_text, info_values, savecore_info_text
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
        "  Dumptime: Mon Jun 10 06:13:20 2024 +0000",
        "  Hostname: crashbox.example.org",
        "  Version String: FreeBSD 14.0",
        "    root@releng",
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
    stored = versionstring.encode()[:191].partition(b"\0")[0].removesuffix(b"\n")
    more = stored.count(b"\n")
    assert len(lines) == 13 + more
    assert all(line.isprintable() for line in lines)
    assert len("\n".join(lines).splitlines()) == 12 + more
    at = next(n for n, line in enumerate(lines) if line.startswith("  Version String: "))
    assert all(line.startswith("    ") for line in lines[at + 1 : at + 1 + more])
    ours = [line for line in lines if not line.startswith("    ")]
    assert len(ours) == 13
    assert ours[-2:] == ["Dump complete", ""]


KERNEL = "FreeBSD 14.1-RELEASE releng/14.1-n267679 GENERIC\n    root@releng:/usr/obj/GENERIC\n"


@pytest.mark.parametrize("savecore", [False, True])
@pytest.mark.parametrize("forged", ["", "\n  Panic String: forged\nDump complete\n"])
def test_crashinfo_finds_the_kernel_of_a_dump(savecore: bool, forged: str) -> None:
    """Its find_kernel (usr.sbin/crashinfo/crashinfo.sh) compares the lines from "Version String" to
    the next name with what the kernel says of itself; its panic is the line of that name."""
    header = DumpHeader.unpack(
        bytes(KernelDumpHeader(versionstring=KERNEL, panicstring=f"page fault{forged}"))
    )
    text = info_text("crashbox", "192.0.2.2", header, "Dump incomplete")
    if savecore:
        text = savecore_info_text("192.0.2.2", 0, header, "Dump incomplete", complete=False)
    lines = text.splitlines()
    found: list[str] = []
    for line in lines:
        if found and re.match("  [A-Za-z ]+: ", line):
            break
        if found or "Version String" in line:
            found.append(line)
    assert "\n".join(found) == f"  Version String: {KERNEL}".rstrip("\n")
    panics = [line for line in lines if line.startswith("  Panic String: ")]
    assert panics == [f"  Panic String: page fault{printable(forged)}"]
    assert lines[-1] == "Dump incomplete"
    assert info_values(text)["Version String"] == KERNEL.rstrip("\n")


def test_a_version_string_that_an_older_version_wrote_on_one_line_is_read() -> None:
    text = "Dump from x [x]\n  Version String: FreeBSD\\n    root\nDump complete\n"
    assert info_values(text)["Version String"] == "FreeBSD\n    root"


@pytest.mark.parametrize(("seconds", "text"), [(0, "Thu Jan  1 00:00:00 1970 +0000"),
                                              (1 << 40, "1099511627776 (no date)")])  # fmt: skip
def test_the_time_of_a_dump_has_its_zone(seconds: int, text: str) -> None:
    assert f"  Dumptime: {text}" in info(dumptime=seconds)


@given(st.text(), st.integers(0, 2**64 - 1))
def test_texts_are_one_printable_line(text: str, seconds: int) -> None:
    assert printable(text).isprintable()
    assert utc_date(seconds).isprintable()


def test_dates_end_with_the_year_9999() -> None:
    assert utc_date(0) == "Thu Jan  1 00:00:00 1970"
    assert utc_date(253402300799) == "Fri Dec 31 23:59:59 9999"
    assert utc_date(253402300800) == "253402300800 (no date)"
