# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a dump, named as netdumpd names them, plus the raw header and a mapfile.

In the dump directory: ``info.HOST.N``, ``vmcore.HOST.N`` (or ``vmcore_encrypted``, with
``.gz`` or ``.zst`` when compressed), ``key.HOST.N``, ``kdh.HOST.N``, ``bounds.HOST`` and the
links ``*.HOST.last``. While bytes are still to come the vmcore is called ``.part`` and the
info says so: nothing that was interrupted looks whole.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..core.transfer import Transfer
from ..errors import StoreError
from ..kerneldump.info import info_text
from .mapfile import mapfile_text

#: netdumpd numbers the dumps of a host below this, and so does savecore(8).
MAX_DUMPS_OF_HOST = 1024

#: What the names of a dump's files begin with, as a regular expression.
KINDS = "info|kdh|key|vmcore|vmcore_encrypted"

_UNFINISHED = "Dump incomplete: being received"


class HostFullError(StoreError):
    """There is no number left for another dump of a host."""


@dataclass(frozen=True, slots=True)
class Published:
    """The files of a dump that is over; None for those that it does not have."""

    info: Path | None = None
    kdh: Path | None = None
    key: Path | None = None
    vmcore: Path | None = None
    map: Path | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The paths as text, as JSON takes them."""
        paths = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: None if path is None else str(path) for name, path in paths}


class DumpDirectory:
    """Where dumps go; created if it is not there."""

    def __init__(self, path: Path) -> None:
        """StoreError if it cannot be written to."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path}: cannot be a dump directory: {error.strerror}") from None

    def reserve(self, host: str, address: str) -> DumpFiles:
        """Take the next free number for a dump of ``host``, which came from ``address``.

        An info file that says that the dump is incomplete holds the number from now on.
        """
        try:
            for number in self._numbers(host):
                files = DumpFiles(self.path, host, address, number)
                if files.begin():
                    _replace(self.path / f"bounds.{host}", f"{number + 1}\n")
                    return files
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written to: {error.strerror}") from None
        raise HostFullError(
            f"{self.path}: holds {MAX_DUMPS_OF_HOST} dumps of {host} already; move some away"
        )

    def _numbers(self, host: str) -> list[int]:
        """The free numbers, those from the bounds file on first."""
        name = re.compile(rf"(?:{KINDS})\.{re.escape(host)}\.(\d+)")
        found = (name.match(entry) for entry in os.listdir(self.path))
        taken = {int(match[1]) for match in found if match}
        first = self._bounds(host)
        numbers = [*range(first, MAX_DUMPS_OF_HOST), *range(first)]
        return [number for number in numbers if number not in taken]

    def _bounds(self, host: str) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # whatever else may have this name
        try:
            with open(os.open(self.path / f"bounds.{host}", flags), encoding="ascii") as file:
                text = file.read(16).strip()
        except (OSError, ValueError):
            return 0
        number = int(text) if text.isdecimal() else 0
        return number if number < MAX_DUMPS_OF_HOST else 0


class DumpFiles:
    """The files of one dump of a host."""

    def __init__(self, directory: Path, host: str, address: str, number: int) -> None:
        self.host = host
        self.address = address
        self.number = number
        self._directory = directory

    @property
    def part(self) -> Path:
        """The vmcore while bytes are still to come."""
        return self._path("vmcore", ".part")

    def begin(self) -> bool:
        """Create the info file; False if there is one already."""
        text = info_text(self.host, self.address, None, _UNFINISHED)
        try:
            _save(self._path("info"), text.encode(), 0o600)
        except FileExistsError:
            return False
        return True

    def publish(self, transfer: Transfer) -> Published:
        """Give the files their final names and contents. StoreError if that fails.

        The vmcore is renamed after all that tells of its holes is in place.
        """
        try:
            kdh = _save(self._path("kdh"), bytes(transfer.kdh), 0o600)
            key = _save(self._path("key"), bytes(transfer.key), 0o400)
            vmcore, map_ = self._publish_vmcore(transfer)
            info = self._path("info")
            text = info_text(self.host, self.address, transfer.header, transfer.status)
            _replace(info, text)
            if transfer.finished:
                self._link("info", info)
                self._link("vmcore", vmcore)
        except OSError as error:
            where = error.filename or self._directory
            raise StoreError(f"{where}: cannot be written: {error.strerror}") from None
        return Published(info, kdh, key, vmcore, map_)

    def _publish_vmcore(self, transfer: Transfer) -> tuple[Path | None, Path | None]:
        if not transfer.vmcore.total:
            return None, None
        header = transfer.trusted_header
        suffix = header.suffix if header is not None else ""
        if suffix and transfer.vmcore.end > transfer.bytes_expected:
            os.truncate(self.part, transfer.bytes_expected)  # padding up to the block size
        encrypted = transfer.key.extents.total or (header is not None and header.dumpkeysize)
        vmcore = self._path("vmcore_encrypted" if encrypted else "vmcore", suffix)
        map_ = None
        missing = transfer.missing
        if missing:
            text = mapfile_text(missing, transfer.bytes_expected)
            map_ = _save(vmcore.with_name(f"{vmcore.name}.map"), text.encode(), 0o600)
        if os.path.lexists(vmcore):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(vmcore))
        os.rename(self.part, vmcore)
        return vmcore, map_

    def _path(self, kind: str, suffix: str = "") -> Path:
        return self._directory / f"{kind}.{self.host}.{self.number}{suffix}"

    def _link(self, kind: str, target: Path | None) -> None:
        """Point ``KIND.HOST.last`` to a file of this dump."""
        if target is None:
            return
        link = self._directory / f"{kind}.{self.host}.last"
        new = link.with_name(f"{link.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(target.name)
        os.replace(new, link)


def _replace(path: Path, text: str) -> None:
    """Write a small file so that it is there either as it was or as it is to be."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    _save(new, text.encode(), 0o600)
    os.replace(new, path)


def _save(path: Path, data: bytes, mode: int) -> Path | None:
    """Write a new file, unless there is nothing to write."""
    if not data:
        return None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(path, flags, mode), "wb") as file:
        file.write(data)
    return path
