# SPDX-License-Identifier: GPL-2.0-or-later
"""The dumps of a recovery on their way into a directory.

While a capture is read nobody knows which dump it shows, as the header comes last. So each
sighting gets a number and files of its own; when all is read the dumps get the first of these
numbers in the order of their time, and the rest goes again. So does a dump that fills the holes
of one that the directory held before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.account import Account
from ..core.extents import Range, pieces
from ..core.observing.batch import Storage
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..errors import StoreError
from ..formats import VMCORE
from ..store.continuation import Continued, continue_dump
from ..store.directory import Directory
from ..store.dump_files import DumpFiles, reserve, write_message
from ..store.hosts import address_text
from ..store.kept_dumps import KeptFiles, UnreadableError, kept_names, load
from ..store.naming import Names, Published, SavecoreNames, neighbours
from ..store.same_dump import compare
from ..store.two_sources import TwoSources
from ..store.vmcore_file import VmcoreFile
from ..store.writer import Writer
from ..text import counted


@dataclass(frozen=True, slots=True)
class Filed:
    """A dump that is over: what its ``files`` hold, and how many ``filled`` bytes it brought
    to one that was here; None if there was none. ``note`` is worth knowing."""

    account: Account
    files: Published
    filled: int | None = None
    note: str = ""


class RefusedError(StoreError):
    """A dump that is none of those it was to continue."""


class Filing:
    """A directory that dumps are recovered into. To be closed."""

    def __init__(
        self,
        path: Path,
        host_of: Callable[[str], str],
        prefer: Prefer,
        *,
        savecore: bool = False,
        into: bool = False,
    ) -> None:
        """``host_of`` tells what a client's address is called in file names, ``savecore`` that
        they are to be as savecore(8) has them. ``into``: nothing new is kept, all is to
        continue what is there. StoreError if the directory cannot be used."""
        self._directory = Directory.open(path, create=not into)
        self._host_of = host_of
        self._prefer = prefer
        self._naming: type[Names] = SavecoreNames if savecore else Names
        self._into = into
        self._writer = Writer()
        self._reserved: dict[str, list[DumpFiles]] = {}
        self._staged: dict[VmcoreFile, DumpFiles] = {}
        self._kept = kept_names(self._directory)
        if into and not self._kept:
            self.close()
            raise StoreError(f"{path}: holds no dump to continue")

    def close(self) -> None:
        """Give back what it has open. What was to continue a dump, and could not be read to its
        end, goes."""
        self._writer.close()
        if self._into:
            for files in self._staged.values():
                with suppress(StoreError):
                    _withdraw(files)
        self._directory.close()

    def turn(self) -> None:
        """A batch was read: see writer.py."""
        self._writer.turn()

    def storage_for(self, dump: ObservedDump) -> Storage:
        """Where a dump's vmcore goes. HostFullError if there is no number left for it."""
        address = address_text(dump.peer.client)
        host = self._host_of(address)
        files = reserve(self._directory, host, address, live=True, naming=self._naming)
        files.release()  # a run may see more dumps than it may have files open
        vmcore = VmcoreFile(files.directory, files.part, self._writer)
        self._reserved.setdefault(files.names.bounds, []).append(files)
        self._staged[vmcore] = files
        return vmcore

    def finish(self, dumps: Sequence[ObservedDump]) -> None:
        """All has been read, and these are the dumps: have them in files of their numbers."""
        found = {id(dump.storage): dump for dump in dumps}
        for vmcore in self._staged:
            if id(vmcore) in found:
                vmcore.finish(found[id(vmcore)].account.vmcore)
        self._writer.drain()
        try:
            self._number([dump.storage for dump in dumps])
        except OSError as error:
            raise StoreError(f"{error.filename}: cannot be written: {error.strerror}") from None

    def _number(self, storages: Sequence[Storage]) -> None:
        """Give each dump of a host the next of the numbers that were taken for its sightings."""
        vmcores = [storage for storage in storages if isinstance(storage, VmcoreFile)]
        names = {vmcore: self._staged[vmcore].names for vmcore in vmcores}
        moving: list[tuple[VmcoreFile, DumpFiles]] = []
        for vmcore in set(self._staged) - set(vmcores):
            vmcore.remove()
        for vmcore in vmcores:
            old = self._staged[vmcore]
            files = self._reserved[old.names.bounds].pop(0)
            files.names = names[vmcore]
            if files is not old:
                vmcore.rename(f"{old.part}.moving")
                moving.append((vmcore, files))
        for vmcore, files in moving:
            vmcore.rename(files.part)
        for files in (files for left in self._reserved.values() for files in left):
            files.discard()
        self._staged = {vmcore: self._staged[vmcore] for vmcore in vmcores} | dict(moving)

    def file(self, dump: ObservedDump) -> Filed:
        """Give a dump's files their final names, or what they hold to a dump that was here.

        RefusedError, and nothing is left of it, if it was to continue one and is another.
        """
        vmcore = dump.storage
        dump.account.examine(vmcore.read)
        if not isinstance(vmcore, VmcoreFile):
            return Filed(dump.account, Published())
        files = self._staged.pop(vmcore)
        stray = dump.account.set_stray_aside()
        continued, told = self._continue(dump, files)
        if continued is not None:
            _withdraw(files)
            return Filed(continued.account, continued.files, continued.filled, told)
        if self._into:
            _withdraw(files)
            raise RefusedError(told)
        _keep_aside(stray, vmcore, files)
        published = files.publish(dump.account, dump.account.verdict)
        note = f"{told}; this one is {published.info}" if told else ""
        return Filed(dump.account, published, None, note)

    def _continue(self, dump: ObservedDump, files: DumpFiles) -> tuple[Continued | None, str]:
        """Continue a kept dump with this one, if one is the same; and what there is to say."""
        reasons = []
        for name in self._kept:
            try:
                kept = load(self._directory, name)
                if not self._into and files.names.address != kept.names.address:
                    continue
                reason = self._hopeless(kept, dump.account)
                if reason is None:
                    continued, reason = self._attempt(kept, dump, files)
                    if continued is not None:
                        return continued, f"{kept.path}: {reason}"
            except UnreadableError as error:
                reason = str(error)
            if reason:
                reasons.append(reason)
        if not reasons:
            return None, ""
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return None, reasons[0] + more

    def _hopeless(self, kept: KeptFiles, fresh: Account) -> str | None:
        """Why there is nothing to try with a kept dump, nothing if that is no news; None if it
        may be continued, or have all of this."""
        mine, header = kept.account.sound_kdh, fresh.sound_kdh
        if kept.complete and not self._into and mine == header:
            return None
        if kept.complete or kept.only_contradicted:
            same = mine is not None and mine == header
            return _nothing_to_fill(kept) if same or self._into else ""
        if not kept.account.holes_known and not self._into:
            return ""  # which of its bytes are holes is not known: only if somebody asks for it
        return None

    def _attempt(
        self, kept: KeptFiles, dump: ObservedDump, files: DumpFiles
    ) -> tuple[Continued | None, str]:
        """Continue a dump, and say so, or tell why not."""
        if not dump.account.vmcore.total:
            return None, f"{kept.path}: not continued, no byte of a vmcore came"
        with TwoSources(kept, files.part, dump.account) as sources:
            judgement = compare(sources)
            same = judgement.sure or (judgement.one and sources.shared == 1)
            if kept.complete and not (same and sources.nothing_new):
                return None, _nothing_to_fill(kept) if kept.account.sound_kdh else ""
            if not judgement.one:
                return None, f"{kept.path}: not continued, {judgement.reason}"
            filed = not kept.complete or (kept.told is not None and kept.told.complete)
            if sources.nothing_new and filed:
                account = kept.account
                account.examine(lambda start, end: os.pread(sources.old, end - start, start))
                files_there = neighbours(Path(kept.path))
                return Continued(account, files_there, 0), "has all of this already"
            continued = continue_dump(sources, self._prefer, sure=judgement.sure)
            dump.account.conflicts.update(sources.differing)
            return continued, f"continued, {counted(continued.filled, 'missing byte')} filled"


def _nothing_to_fill(kept: KeptFiles) -> str:
    is_ = "complete already" if kept.complete else "contradicted"
    return f"{kept.path}: is {is_}, nothing to fill"


def _keep_aside(stray: Sequence[Range], vmcore: VmcoreFile, files: DumpFiles) -> None:
    """Keep the bytes of some ranges beside the vmcore."""
    if not stray:
        return
    try:
        descriptor = files.create_other()
        try:
            for start, end in (piece for range_ in stray for piece in pieces(*range_)):
                write_message(descriptor, VMCORE, start, vmcore.read(start, end))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be written: {error.strerror}") from None


def _withdraw(files: DumpFiles) -> None:
    """Remove a dump that was not published."""
    try:
        files.directory.unlink(files.part)
        files.discard()
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be removed: {error.strerror}") from None
