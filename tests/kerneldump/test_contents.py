# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of dump it is, and what its holes mean; ELF cores and textdumps."""

from __future__ import annotations

import io
import tarfile

import pytest
from helpers.dumps import Minidump, elf_core, ustar
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.dump.console import text_files
from scapy_netdump.kerneldump.contents import contents_of, verdict
from scapy_netdump.kerneldump.elfcore import ElfCore, ElfError
from scapy_netdump.kerneldump.textdump import BLOCK, forward

SAMPLE = Minidump("amd64", 3, list(range(16, 26)))
DATA = SAMPLE.build()
SEGMENTS = [(0, bytes(8192)), (0x100000, b"\1" * 12288)]


def judged(missing, data=DATA, head=None):
    return verdict(contents_of(data if head is None else head, len(data)), missing)


def region(name):
    return contents_of(DATA, len(DATA)).region(name)


def test_a_whole_minidump_is_usable():
    found = contents_of(DATA, len(DATA))
    assert (found.kind, found.architecture) == ("minidump", "amd64")
    assert judged([]) == (verdict(found, []))
    assert judged([]).usable is True
    assert judged([]).text == "usable in kgdb: nothing is missing"


def test_holes_among_the_pages_leave_it_usable():
    start = region("memory pages").start
    holes = [
        (start + 4000, start + 4200),
        (start + 8192, start + 8193),
        (start + 9000, start + 9001),
    ]
    found = judged(holes)
    assert found.usable is True
    assert found.text == (
        "usable in kgdb: 3 of 10 memory pages are holes; header, message buffer, dump_avail, "
        "page bitmap and page tables are whole"
    )
    assert "1 of 10 memory pages is a hole" in judged([(start, start + 1)]).text


def test_a_hole_in_the_message_buffer_leaves_it_usable():
    start = region("message buffer").start
    found = judged([(start, start + 7)])
    assert found.usable is True
    assert found.text == (
        "usable in kgdb: the message buffer lacks 7 bytes; header, dump_avail, page bitmap and "
        "page tables are whole"
    )


@pytest.mark.parametrize("name", ["page bitmap", "page tables", "dump_avail"])
def test_without_what_finds_the_pages_it_is_not(name):
    part = region(name)
    found = judged([(part.start, part.start + 1)])
    assert found.usable is False
    assert found.text == (
        f"not usable: {name} missing (1 of {part.size} bytes); console text recovered"
    )
    found = judged([(part.start, part.end)])
    assert found.text == f"not usable: {name} missing; console text recovered"


def test_a_dump_that_broke_off_tells_all_that_it_lacks():
    ring = region("message buffer")
    found = judged([(ring.start + 10, len(DATA))])
    assert found.usable is False
    assert "dump_avail missing, page bitmap missing and page tables missing" in found.text
    assert "console text recovered in part" in found.text
    assert "console text missing" in judged([(ring.start, len(DATA))]).text


def test_without_a_header_nothing_is_claimed():
    found = judged([(0, 100)], head=b"")
    assert found.usable is None
    assert "its first bytes are missing" in found.text
    unknown = contents_of(b"\xde\xad\xbe\xef" * 8, 5000)
    assert unknown.kind == "unknown"
    assert unknown.note.startswith("begins with de ad be ef")


@pytest.mark.parametrize(
    ("order", "bits", "machine", "name"),
    [
        ("<", 64, 62, "amd64"),
        ("<", 64, 183, "aarch64"),
        ("<", 32, 3, "i386"),
        (">", 64, 21, "powerpc64"),
    ],
)
def test_full_dumps(order, bits, machine, name):
    data = elf_core(order, bits, machine, SEGMENTS)
    found = contents_of(data, len(data))
    assert (found.kind, found.architecture) == ("full dump", name)
    assert [(part.name, part.start, part.size) for part in found.regions] == [
        ("ELF headers", 0, 4096),
        ("memory from 0x0", 4096, 8192),
        ("memory from 0x100000", 12288, 12288),
    ]
    assert found.core is not None
    assert list(found.core.lost([(4096 + 5000, 12288 + 4097)])) == [
        (4096, 8192),
        (0x100000, 0x102000),
    ]
    assert verdict(found, [(4096, 4097)]).text.startswith(
        "usable in kgdb: 1 of 5 memory pages is a"
    )
    assert verdict(found, [(0, 1)]).usable is False


def test_other_elf_files_are_no_dumps():
    data = bytearray(elf_core("<", 64, 62, SEGMENTS))
    data[16] = 2  # ET_EXEC
    with pytest.raises(ElfError, match="no core"):
        ElfCore.parse(bytes(data))
    with pytest.raises(ElfError, match="cut short"):
        ElfCore.parse(bytes(data[:70]))
    assert ElfCore.parse(b"") is None
    assert contents_of(bytes(data), 5000).note


@given(st.binary(max_size=200))
def test_any_elf_bytes_are_a_core_or_an_error_of_ours(data):
    found = contents_of(b"\x7fELF" + data, 1 << 30)
    assert found.kind == "full dump"
    verdict(found, [(0, 1 << 30)])


FILES = [("ddb.txt", b"db> bt\n" * 200), ("panic.txt", b"page fault"), ("version.txt", b"")]
TEXTDUMP = b"".join(ustar(*file) for file in FILES)
BACKWARDS = b"".join(TEXTDUMP[at : at + BLOCK] for at in reversed(range(0, len(TEXTDUMP), BLOCK)))


@pytest.mark.parametrize("data", [TEXTDUMP, BACKWARDS], ids=["forwards", "backwards"])
def test_a_textdump_is_read_in_both_directions(data):
    assert list(text_files(data)) == FILES
    assert forward(data) == TEXTDUMP
    with tarfile.open(fileobj=io.BytesIO(forward(data) + bytes(1024))) as tar:
        assert tar.getnames() == [name for name, _ in FILES]


def test_a_textdump_is_known_by_itself_or_by_its_header():
    assert contents_of(TEXTDUMP, len(TEXTDUMP)).kind == "textdump"
    found = contents_of(BACKWARDS, len(BACKWARDS), textdump=True)
    assert found.kind == "textdump"
    assert verdict(found, []).usable is True
    assert verdict(found, [(0, 10)]).usable is False


@given(st.binary(max_size=3000))
def test_damaged_textdumps_give_what_precedes_the_damage(data):
    list(text_files(data))
    assert list(text_files(TEXTDUMP[:2560] + data))[:1] == FILES[:1]
