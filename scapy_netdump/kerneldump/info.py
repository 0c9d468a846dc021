# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of an info file, as netdumpd writes it. Imports its neighbour header.py."""

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
