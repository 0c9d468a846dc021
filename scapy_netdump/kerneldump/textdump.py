# SPDX-License-Identifier: GPL-2.0-or-later
"""A textdump: a ustar archive of text files that the kernel writes block by block from its
end backwards (textdump(4), sys/ddb/db_textdump.c).
"""

from __future__ import annotations

BLOCK = 512  # TEXTDUMP_BLOCKSIZE in sys/ddb/ddb.h
_USTAR_AT, _USTAR = 257, b"ustar"
_SIZE_AT, _SIZE_DIGITS = 124, 11  # octal

#: Textdumps are some hundred kilobytes; what claims to be larger is none. Bytes.
MAX_SIZE = 1 << 28


def is_textdump(head: bytes) -> bool:
    """Whether a file that begins with this block may be a textdump that is the right way
    round, as savecore(8) keeps it."""
    return head[_USTAR_AT : _USTAR_AT + len(_USTAR)] == _USTAR


def forward(data: bytes) -> bytes:
    """A textdump the right way round, whichever way it comes.

    It is backwards if it ends in a header, unless that is of an empty file.
    """
    first, last = data[:BLOCK], data[-BLOCK:]
    if is_textdump(first) and not (is_textdump(last) and _is_empty(first)):
        return data
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    return b"".join(reversed(list(blocks)))


def member_size(header: bytes) -> int | None:
    """The bytes of the file whose header this block is; None if it is no header."""
    digits = header[_SIZE_AT : _SIZE_AT + _SIZE_DIGITS].strip(b" \0")
    if not is_textdump(header) or digits.strip(b"01234567"):
        return None
    return int(digits or b"0", 8)


def _is_empty(header: bytes) -> bool:
    return not member_size(header)
