# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of an info file: as netdumpd writes it, as savecore(8) does, and read again.

crashinfo(8) looks for the kernel of a dump by the lines from "Version String" to the next name, and
compares them with the kernel's own version, which has two lines. So a version string is written
over several, and nothing else is: control characters are escaped, as a line break within a string
would forge lines. What follows a version string's first line begins with four blanks, as the
kernel's second line does, and our own lines with two or none: it forges none of them either.
"""

from collections.abc import Iterable, Iterator

from ..text import printable, utc_date
from .header import DumpHeader

_VERSION = "Version String"
_INDENT = "    "

_Item = tuple[str, object]


def info_text(host: str, address: str, header: DumpHeader | None, last_line: str) -> str:
    """The text for a dump of `host` at `address`, ending in `last_line`.

    Without a header there are but the first and the last line. The dump time is in UTC.
    """
    items = _items(header) if header is not None else ()
    return _text(f"Dump from {host} [{address}]", items, last_line)


def _items(header: DumpHeader) -> Iterator[_Item]:
    yield "Architecture", header.architecture
    yield "Architecture Version", header.architectureversion
    yield "Dump Length", f"{header.dumplength}B ({header.dumplength >> 20} MB)"
    yield "Blocksize", header.blocksize
    yield "Compression", header.compression_name
    yield "Dumptime", _dumptime(header)
    yield "Hostname", header.hostname
    yield _VERSION, header.versionstring
    yield "Panic String", header.panicstring
    yield "Header Parity Check", "Pass" if header.parity_ok else "Fail"
    if not header.magic_ok:
        yield "Header Magic Check", f"Fail: {header.magic}"


def savecore_info_text(
    address: str, number: int, header: DumpHeader | None, last_line: str, *, complete: bool
) -> str:
    """The text as savecore(8) writes it, for dump ``number`` from ``address``, ending in
    ``last_line``, which says whether it is ``complete``. The lines are those of printheader() in
    sbin/savecore/savecore.c."""
    items: list[_Item] = list(_savecore_items(header)) if header is not None else []
    items += [("Bounds", number), ("Dump Status", _dump_status(header, complete))]
    return _text(f"Dump header from device: {address}", items, last_line)


def _savecore_items(header: DumpHeader) -> Iterator[_Item]:
    yield "Architecture", header.architecture
    yield "Architecture Version", header.architectureversion
    yield "Dump Length", header.dumplength
    yield "Blocksize", header.blocksize
    yield "Compression", header.compression_name
    yield "Dumptime", _dumptime(header)
    yield "Hostname", header.hostname
    yield "Magic", header.magic
    yield _VERSION, header.versionstring
    yield "Panic String", header.panicstring
    yield "Dump Parity", header.parity


def _dumptime(header: DumpHeader) -> str:
    """The time with its zone, as savecore(8) writes it."""
    date = utc_date(header.dumptime)
    return date if date.endswith(")") else f"{date} +0000"


def _text(first: str, items: Iterable[_Item], last: str) -> str:
    lines = [printable(first)]
    for name, value in items:
        if name == _VERSION:
            lines += _version_lines(str(value))
        else:
            lines.append(printable(f"  {name}: {value}"))
    return "".join(f"{line}\n" for line in [*lines, printable(last)])


def _version_lines(version: str) -> Iterator[str]:
    first, *rest = version.removesuffix("\n").split("\n")
    yield printable(f"  {_VERSION}: {first}")
    yield from (printable(_INDENT + line.lstrip(" ")) for line in rest)


def _dump_status(header: DumpHeader | None, complete: bool) -> str:
    """savecore's word for it: "good" are dumps that are whole, "bad" those whose header is not."""
    if header is not None and not header.valid:
        return "bad"
    return "good" if complete and header is not None else "unknown"


def info_values(text: str) -> dict[str, str]:
    """What an info file says of a dump, by the names above, whether this package, netdumpd or
    savecore(8) wrote it. A version string has its line breaks again."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.strip().partition(": ")
        if line.startswith(_INDENT) and _VERSION in values:
            values[_VERSION] += f"\n{line}"
        elif colon and line.startswith("  "):
            values.setdefault(name, value)
    if _VERSION in values:  # which was on one line once
        values[_VERSION] = values[_VERSION].replace(r"\n", "\n")
    return values


def last_line(text: bytes) -> str:
    """The last line of an info file, or of the end of one, which says whether its dump is whole.
    Blank ones may follow for a moment, where it was written over (store/overwriting.py)."""
    return text.rstrip(b"\n").rpartition(b"\n")[2].decode(errors="backslashreplace")


def with_last_line(text: bytes, line: str) -> bytes:
    """An info file with another last line."""
    head, newline, _ = text.rstrip(b"\n").rpartition(b"\n")
    return head + newline + f"{line}\n".encode()


def info_origin(text: str) -> str:
    """Where the dump of an info file came from: an address, or a device; empty if it does not
    say."""
    first = text.partition("\n")[0]
    device = first.removeprefix("Dump header from device: ")
    if device != first:
        return device
    return first.rpartition(" [")[2].removesuffix("]") if first.startswith("Dump from ") else ""
