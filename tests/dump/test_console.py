# SPDX-License-Identifier: GPL-2.0-or-later
"""The console text of dumps of all kinds, whole and damaged."""

from __future__ import annotations

import pytest
from helpers.dumps import Minidump, elf_core, ustar
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.dump.console import NoConsoleError, console_of, head_of
from scapy_netdump.kerneldump.contents import contents_of

TEXT = "boot\npanic: page fault\n"
SAMPLE = Minidump("amd64", 3, list(range(16, 26)), text=TEXT.encode(), wrote=7)
DATA = SAMPLE.build()
RING = next(part for part in contents_of(DATA, len(DATA)).regions if part.name == "message buffer")


class Bytes:
    """A dump in memory, whose missing bytes read as rubbish."""

    def __init__(self, data, missing=()):
        self.size = len(data)
        self.missing = list(missing)
        self._data = bytearray(data)
        for start, end in self.missing:
            self._data[start:end] = b"\xa5" * (end - start)

    def read(self, offset, size):
        return bytes(self._data[offset : offset + size])


def shown(content, *, textdump=False):
    contents = contents_of(head_of(content), content.size, textdump=textdump)
    return console_of(content, contents)


def test_a_whole_minidump():
    assert shown(Bytes(DATA)) == TEXT


def test_only_the_first_pages_are_needed():
    assert shown(Bytes(DATA, [(RING.end, len(DATA))])) == TEXT


def test_holes_in_the_text_are_marked():
    hole = (RING.start + 2, RING.start + 5)
    text = shown(Bytes(DATA, [hole]))
    assert "[3 bytes missing]" in text
    content = Bytes(DATA, [hole])
    assert console_of(content, contents_of(head_of(content), content.size)).bytes_missing == 3
    assert "\\xa5" not in text
    assert text.startswith("boot\npanic: page")


def test_without_the_struct_the_text_stands_as_it_is():
    text = shown(Bytes(DATA, [(RING.start + SAMPLE.ring_bytes, RING.end)]))
    assert sorted(text.replace("\n", "")) == sorted(TEXT.replace("\n", ""))


def test_without_the_header_the_buffer_is_found_all_the_same():
    assert shown(Bytes(DATA, [(0, 4096)])) == TEXT


def test_without_the_ring_there_is_no_text():
    with pytest.raises(NoConsoleError, match="message buffer is missing"):
        shown(Bytes(DATA, [(RING.start, RING.end)]))
    with pytest.raises(NoConsoleError, match="begins with 00"):
        shown(Bytes(bytes(9000)))


def test_a_dump_that_is_not_there_at_all():
    with pytest.raises(NoConsoleError):
        shown(Bytes(bytes(9000), [(0, 9000)]))
    with pytest.raises(NoConsoleError):
        shown(Bytes(b""))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_full_dump_is_searched(order):
    name = "amd64" if order == "<" else "powerpc64"
    built = Minidump(name, 1, [], text=TEXT.encode(), wrote=50)
    memory = bytes(3 << 20) + b"\x62\x30\x06\x00" * 5 + bytes(8172) + built.ring + bytes(4096)
    data = elf_core(order, 64, 62 if order == "<" else 21, [(0x200000, memory)])
    assert shown(Bytes(data)) == TEXT


def test_a_textdump_has_it_as_a_file():
    data = ustar("ddb.txt", b"db> \n") + ustar("msgbuf.txt", b"a\n\x1b[0m\n") + ustar("x", b"1")
    assert shown(Bytes(data)) == "a\n\\x1b[0m\n"
    backwards = b"".join(data[at : at + 512] for at in reversed(range(0, len(data), 512)))
    assert shown(Bytes(backwards), textdump=True) == "a\n\\x1b[0m\n"
    with pytest.raises(NoConsoleError, match=r"no msgbuf\.txt"):
        shown(Bytes(ustar("x", b"1")))


@given(st.lists(st.tuples(st.integers(0, len(DATA)), st.integers(1, 3000)), max_size=6))
def test_no_byte_is_shown_that_is_missing(holes):
    missing = []
    for start, size in sorted(holes):
        start = max(start, missing[-1][1] + 1 if missing else 0)
        if start < len(DATA):
            missing.append((start, min(start + size, len(DATA))))
    try:
        text = shown(Bytes(DATA, missing))
    except NoConsoleError:
        return
    assert "\\xa5" not in text
