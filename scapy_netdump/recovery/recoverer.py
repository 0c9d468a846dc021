# SPDX-License-Identifier: GPL-2.0-or-later
"""From captures to the files of the dumps in them.

Captures are read in the order given, as if they were one: what a later one shows of a
dump fills the holes that an earlier one left.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..capture.live import LiveCapture
from ..core.observing.batch import Storage
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..core.observing.selection import Selection
from ..core.observing.watcher import Watcher
from ..dump.captures import Captures, Progress, selection
from ..dump.dump import Unlock
from ..dump.open import Passphrase, no_passphrase
from ..store.dump_files import HostFullError
from ..store.hosts import host_name
from ..store.naming import Published
from ..store.nowhere import Nowhere
from .filing import Filed, Filing, RefusedError
from .plain_copies import PlainCopies
from .result import Recovery as Recovery
from .result import recovered_dump


class Recoverer:
    """Reads captures, and files the dumps in them in a directory. To be used in ``with``."""

    def __init__(
        self,
        directory: Path | None,
        selection: Selection | None = None,
        *,
        names: bool = False,
        careful: bool = False,
        prefer: Prefer = Prefer.ACKED,
        savecore: bool = False,
        into: bool = False,
        watcher: Watcher | None = None,
    ) -> None:
        """``directory`` None stores nothing; of ``conflicting_bytes`` only copies that came close
        together are known then.

        ``names`` asks reverse DNS what to call clients in file names, ``savecore`` gives files
        savecore(8)'s names. ``prefer`` tells which of different payloads is kept. ``into``:
        what is found is to continue dumps that are in the directory. ``careful`` decodes
        frame by frame, to compare with. ``watcher`` looks on, and says where vmcores go
        without a directory. StoreError if the directory cannot be used.
        """
        self._prefer = prefer
        self._filing = None
        if directory is not None:
            host_of = host_name if names else str
            self._filing = Filing(directory, host_of, prefer, savecore=savecore, into=into)
        self._watcher = watcher
        self._captures = Captures(
            self._storage_for,
            selection,
            careful=careful,
            prefer=prefer,
            watcher=watcher,
            turn=self._turn,
        )
        self.recovery = Recovery(problems=self._captures.problems)

    def __enter__(self) -> Recoverer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._filing is not None:
            self._filing.close()

    def read(self, path: str, progress: Progress | None = None) -> None:
        """Read a capture file, ``-`` for standard input.

        CaptureError if it is none, StoreError if a dump cannot be written.
        """
        self._captures.read(path, progress)

    def watch(self, capture: LiveCapture) -> None:
        """Read from a network interface until ``capture`` is stopped."""
        self._captures.watch(capture)

    def stop(self) -> None:
        """Read no more; a signal handler may call this (dump/captures.py)."""
        self._captures.stop()

    def finish(self) -> Recovery:
        """Give the files of all dumps their final names, and say what there is."""
        dumps = self._captures.finish()
        if self._filing is not None:
            self._filing.finish(dumps)
        for dump in dumps:
            self._file(dump)
        self.recovery.frames = self._captures.frames
        self.recovery.notes += self._captures.notes
        return self.recovery

    def _turn(self) -> None:
        if self._filing is not None:
            self._filing.turn()

    def _storage_for(self, dump: ObservedDump) -> Storage:
        if self._filing is None:
            return Nowhere() if self._watcher is None else self._watcher.storage_for(dump)
        try:
            return self._filing.storage_for(dump)
        except HostFullError as error:
            self.recovery.problems.append(str(error))
            return Nowhere()

    def _file(self, dump: ObservedDump) -> None:
        filed = Filed(dump.account, Published())
        try:
            if self._filing is not None:
                filed = self._filing.file(dump)
        except RefusedError as error:
            self.recovery.problems.append(str(error))
            self.recovery.refused += 1
            return
        if filed.note:
            self.recovery.notes.append(filed.note)
        self.recovery.dumps.append(
            recovered_dump(dump, self._prefer, filed.account, filed.files, filed.filled)
        )


def recover(
    captures: str | bytes | os.PathLike[str] | Sequence[str | bytes | os.PathLike[str]],
    directory: str | os.PathLike[str],
    *,
    client: str | None = None,
    server: str | None = None,
    port: int | None = None,
    private_key: str | os.PathLike[str] | None = None,
    passphrase: Passphrase = no_passphrase,
    progress: Progress | None = None,
) -> Recovery:
    """Rebuild the dumps in a capture, or in several that are read as one, into ``directory``.

    ``client``, ``server`` and ``port`` tell which dumps are wanted, as for ``reassemble``. With a
    ``private_key``, in PEM form, each encrypted dump gets a decrypted copy beside it; its
    ``passphrase`` is asked for at once. ``progress`` is told how far a capture is read, and how
    far a copy has come. What cannot be read, kept or decrypted is among the ``problems``.
    CaptureError if one is no capture, StoreError if the directory cannot be written to,
    EncryptionError if there is no private key in that file, UsageError for an address that is
    none.
    """
    wanted = selection(client, server, port)
    paths = [captures] if isinstance(captures, str | bytes | os.PathLike) else captures
    unlock = _unlock(Path(private_key), passphrase) if private_key is not None else None
    with Recoverer(Path(directory), wanted) as recoverer:
        for path in paths:
            recoverer.read(os.fsdecode(path), progress)
        recovery = recoverer.finish()
    if unlock is not None:
        copies = PlainCopies(unlock, False, False, progress or (lambda *_: None))
        recovery.problems += copies.add_all(recovery.dumps)
    return recovery


def _unlock(private_key: Path, passphrase: Passphrase) -> Unlock:
    """What opens the keys of dumps. The passphrase is asked for now, not after hours."""
    from ..dump.keys import unlocker  # cryptography is an extra

    return unlocker(private_key, passphrase)
