# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of an info file: as netdumpd writes it, as savecore(8) does, and read again."""

from collections.abc import Iterator

from ..text import printable, utc_date
from .header import DumpHeader


def info_text(host: str, address: str, header: DumpHeader | None, last_line: str) -> str:
    """The text for a dump of `host` at `address`, ending in `last_line`.

    Without a header there are but the first and the last line. Control characters are
    escaped: a line break within a string would forge lines. The dump time is in UTC.
    """
    lines = [f"Dump from {host} [{address}]"]
    if header is not None:
        lines += [f"  {name}: {value}" for name, value in _items(header)]
    return "".join(printable(line) + "\n" for line in [*lines, last_line])


def _items(header: DumpHeader) -> Iterator[tuple[str, object]]:
    yield "Architecture", header.architecture
    yield "Architecture Version", header.architectureversion
    yield "Dump Length", f"{header.dumplength}B ({header.dumplength >> 20} MB)"
    yield "Blocksize", header.blocksize
    yield "Compression", header.compression_name
    yield "Dumptime", utc_date(header.dumptime)
    yield "Hostname", header.hostname
    yield "Version String", header.versionstring.removesuffix("\n")
    yield "Panic String", header.panicstring
    yield "Header Parity Check", "Pass" if header.parity_ok else "Fail"
    if not header.magic_ok:
        yield "Header Magic Check", f"Fail: {header.magic}"


def savecore_info_text(
    address: str, number: int, header: DumpHeader | None, last_line: str, *, complete: bool
) -> str:
    """The text as savecore(8) writes it, which crashinfo(8) reads, for dump ``number`` from
    ``address``, ending in ``last_line``, which says whether it is ``complete``. The lines are
    those of printheader() in sbin/savecore/savecore.c.

    Control characters are escaped as in netdumpd's. Only the line break within a
    version string stays, as crashinfo(8) compares it with those of kernels; what follows is
    indented so far that it forges no line.
    """
    lines = [f"Dump header from device: {address}"]
    if header is not None:
        lines += [f"  {name}: {value}" for name, value in _savecore_items(header)]
    lines += [f"  Bounds: {number}", f"  Dump Status: {_dump_status(header, complete)}", last_line]
    return "".join(f"{line}\n" for text in lines for line in _savecore_lines(text))


def _savecore_lines(text: str) -> Iterator[str]:
    first, *rest = text.split("\n")
    yield printable(first)
    for line in rest:
        yield printable(f"    {line.lstrip(' ')}")


def _savecore_items(header: DumpHeader) -> Iterator[tuple[str, object]]:
    yield "Architecture", printable(header.architecture)
    yield "Architecture Version", header.architectureversion
    yield "Dump Length", header.dumplength
    yield "Blocksize", header.blocksize
    yield "Compression", header.compression_name
    yield "Dumptime", f"{utc_date(header.dumptime)} +0000"
    yield "Hostname", printable(header.hostname)
    yield "Magic", printable(header.magic)
    yield "Version String", header.versionstring.removesuffix("\n")
    yield "Panic String", printable(header.panicstring)
    yield "Dump Parity", header.parity


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
        if line.startswith("    ") and "Version String" in values:
            values["Version String"] += f"\n{line}"
        elif colon and line.startswith("  "):
            values.setdefault(name, value)
    if "Version String" in values:
        values["Version String"] = values["Version String"].replace(r"\n", "\n")
    return values


def info_origin(text: str) -> str:
    """Where the dump of an info file came from: an address, or a device; empty if it does not
    say."""
    first = text.partition("\n")[0]
    device = first.removeprefix("Dump header from device: ")
    if device != first:
        return device
    return first.rpartition(" [")[2].removesuffix("]") if first.startswith("Dump from ") else ""
