# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of a dump are called: as netdumpd calls them, or as savecore(8) does.

Imports the package's kernel dump header and its texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..core.verdict import Verdict
from ..kerneldump.header import DumpHeader
from ..kerneldump.info import info_text, savecore_info_text

#: What the names of a dump's files begin with, as a regular expression.
KINDS = "info|kdh|key|vmcore|vmcore_encrypted|other"

#: What the name of a vmcore ends in while bytes are still to come.
PART = ".part"

#: What the name of a file ends in that holds the dump headers which do not count.
OTHER = ".other"

#: netdumpd numbers the dumps of a host below this.
MAX_DUMPS_OF_HOST = 1024

#: savecore(8) reads five characters of its bounds file.
_MAX_DUMPS_OF_SAVECORE = 100_000

_ENDS = r"(?P<suffix>\.gz|\.zst)?(?P<end>\.map|\.part|\.other)?"

#: A file of a dump, by whichever of the names below: kind, host if it has one, number, suffix of
#: compressed ones, and what it ends in if it is the mapfile or still being written.
STORED_NAME = re.compile(
    rf"(?P<kind>{KINDS})\.(?:(?P<host>.+?)\.)?(?P<number>(?(host)\d{{1,4}}|\d{{1,5}})){_ENDS}"
)


class Names:
    """netdumpd's names for the dumps of ``host``, which came from ``address``.

    ``most`` is where numbers end, ``whose`` tells in a message what they count.
    """

    most = MAX_DUMPS_OF_HOST

    def __init__(self, host: str, address: str) -> None:
        self.host = host
        self.address = address
        self.bounds = f"bounds.{host}"
        self.whose = f" of {host}"
        self._pattern = re.compile(rf"(?:{KINDS})\.{re.escape(host)}\.(\d+)")

    def of(self, kind: str, number: int, suffix: str = "") -> str:
        """The name of a file of one dump."""
        return f"{kind}.{self.host}.{number}{suffix}"

    def vmcore(self, number: int, encrypted: bool, suffix: str) -> str:
        """What a vmcore is called when no more comes; ``suffix`` tells its compression."""
        return self.of("vmcore_encrypted" if encrypted else "vmcore", number, suffix)

    def number(self, name: str) -> int | None:
        """The number of the dump that a file is of; None if it is of none of these dumps."""
        match = self._pattern.match(name)
        return int(match[1]) if match else None

    def info(self, number: int, header: DumpHeader | None, verdict: Verdict) -> str:
        """The text of an info file that ends with ``verdict``."""
        return info_text(self.host, self.address, header, str(verdict))

    def links(
        self, info: str, key: str | None, vmcore: str | None, suffix: str
    ) -> Iterator[tuple[str, str]]:
        """The links to the last dump that was finished, and their targets; ``suffix`` tells
        the vmcore's compression."""
        yield f"info.{self.host}.last", info
        if vmcore is not None:
            yield f"vmcore.{self.host}.last", vmcore

    def stale_links(self) -> Iterator[str]:
        """The links that are to go when another dump is the last one."""
        return iter(())


class SavecoreNames(Names):
    """savecore(8)'s names, by which crashinfo(8) and kgdb(1) find a dump: no host in them, one
    bounds file for all (sbin/savecore/savecore.c).

    A compressed dump that is encrypted as well has no suffix, but the link to it has.
    """

    most = _MAX_DUMPS_OF_SAVECORE

    def __init__(self, host: str, address: str) -> None:
        super().__init__(host, address)
        self.bounds = "bounds"
        self.whose = ""
        self._pattern = re.compile(rf"(?:{KINDS})\.(\d+){_ENDS}$")

    def of(self, kind: str, number: int, suffix: str = "") -> str:
        """The name of a file of one dump."""
        return f"{kind}.{number}{suffix}"

    def vmcore(self, number: int, encrypted: bool, suffix: str) -> str:
        """What a vmcore is called when no more comes; ``suffix`` tells its compression."""
        return super().vmcore(number, encrypted, "" if encrypted else suffix)

    def info(self, number: int, header: DumpHeader | None, verdict: Verdict) -> str:
        """The text of an info file that ends with ``verdict``."""
        return savecore_info_text(
            self.address, number, header, str(verdict), complete=verdict.complete
        )

    def links(
        self, info: str, key: str | None, vmcore: str | None, suffix: str
    ) -> Iterator[tuple[str, str]]:
        """The links to the last dump that was finished, and their targets; ``suffix`` tells
        the vmcore's compression."""
        yield "info.last", info
        if key is not None:
            yield "key.last", key
        if vmcore is not None:
            yield f"{vmcore.partition('.')[0]}.last{suffix}", vmcore

    def stale_links(self) -> Iterator[str]:
        """The links that are to go when another dump is the last one."""
        yield "key.last"
        for kind in ("vmcore", "vmcore_encrypted"):
            yield from (f"{kind}.last{suffix}" for suffix in ("", ".gz", ".zst"))
