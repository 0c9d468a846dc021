# SPDX-License-Identifier: GPL-2.0-or-later
"""The classic capture file (draft-ietf-opsawg-pcap): both byte orders, micro- and nanoseconds."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.observing.batch import Bytes, Ints, Mask, gather
from .chain import CaptureFormat, Chain
from .frames import LARGEST_RECORD, MAX_RECORD, Frames, Scan, stretches

_FILE_HEADER = struct.Struct("IHHiIII")  # magic, version, zone, accuracy, snaplen, link type
_RECORD = 16  # seconds, fraction, included and original length
_INCLUDED = 8  # where the included length stands in a record

_CHAIN = 3  # records that have to follow a place to believe in it
_NEAR = 365 * 86_400  # seconds; a capture may wait for long between two frames
_MAX_SNAPLEN = 1 << 27  # max_snaplen_for_dlt in libpcap's pcap-common.c: the most of any link type
_MAX_ORIGINAL = 1 << 20  # no frame is longer, coalesced or not

#: Magic number to (byte order of the file, ticks a second).
_MAGICS = {
    struct.pack(order + "I", magic): (order, ticks)
    for order in "<>"
    for magic, ticks in ((0xA1B2C3D4, 10**6), (0xA1B23C4D, 10**9))
}


class Pcap(CaptureFormat):
    """Finds the frames of a classic capture file."""

    header_size = _FILE_HEADER.size

    def __init__(self, order: str, ticks: int, snaplen: int, link: int) -> None:
        super().__init__(Chain(frame_at=_RECORD, length_at=_INCLUDED, overhead=_RECORD))
        self._ticks = ticks
        self._link = link & 0xFFFF  # the upper bits tell of a frame check sequence
        believed = MAX_RECORD <= snaplen <= _MAX_SNAPLEN
        self._max_record = min(snaplen, LARGEST_RECORD) if believed else MAX_RECORD
        self._length = struct.Struct(order + "I")
        self._u4 = order + "u4"
        self._header = np.dtype([(name, self._u4) for name in ("sec", "frac", "incl", "orig")])

    @staticmethod
    def recognise(head: bytes) -> Pcap | None:
        """The reader for a file that begins with ``head``, if it is a classic capture."""
        if head[:4] not in _MAGICS or len(head) < _FILE_HEADER.size:
            return None
        order, ticks = _MAGICS[head[:4]]
        *_, snaplen, link = struct.unpack_from(order + _FILE_HEADER.format, head)
        return Pcap(order, ticks, snaplen, link)

    def scan_slowly(self, buffer: Bytes, begin: int, end: int) -> Scan:
        data = buffer.data
        found = []
        position = begin
        problem = None
        while position + _RECORD <= end:
            included = self._length.unpack_from(data, position + _INCLUDED)[0]
            if included > self._max_record:
                problem = f"bad record length {included}"
                break
            if position + _RECORD + included > end:
                break
            found.append(position)
            position += _RECORD + included
        frames = self._frames(buffer, np.array(found, np.int64))
        return Scan(frames, position, problem)

    def resume(self, buffer: Bytes, begin: int, end: int) -> int | None:
        """Where sound records go on after damage at ``begin``, if they do before ``end``.

        The format has no marks to look for. But a place where a sound header leads to
        another one, and so on a few times or up to the end, is a record's: a header is judged
        by its lengths, its fraction of a second, and a time near that of the one before.
        """
        for stretch in stretches(begin + 1, end - _RECORD):
            positions = np.arange(stretch.start, stretch.stop)
            candidates = positions[self._plausible(self._headers(buffer, positions))]
            following = candidates
            for _ in range(_CHAIN):
                following = self._following(buffer, following, end)
                sound = following >= 0
                candidates, following = candidates[sound], following[sound]
            if len(candidates):
                return int(candidates[0])
        return None

    def _following(self, buffer: Bytes, positions: Ints, end: int) -> Ints:
        """Where the records after those at some positions begin; ``end`` if none does, and
        -1 if one does whose header is not sound."""
        after: Ints = positions.copy()
        going = positions < end
        after[going] += self._headers(buffer, positions[going])["incl"] + np.int64(_RECORD)
        inside = after + _RECORD <= end
        after[~inside & (after != end)] = -1
        before, header = (self._headers(buffer, at[inside]) for at in (positions, after))
        near = np.abs(header["sec"].astype(np.int64) - before["sec"]) < _NEAR
        after[inside] = np.where(near & self._plausible(header), after[inside], -1)
        return after

    def _headers(self, buffer: Bytes, positions: Ints) -> npt.NDArray[Any]:
        return gather(buffer, positions, f"V{_RECORD}").view(self._header)

    def _plausible(self, header: npt.NDArray[Any]) -> Mask:
        included, original = header["incl"], header["orig"]
        return np.asarray(
            (included <= original)
            & (included > 0)
            & (included <= self._max_record)
            & (original <= _MAX_ORIGINAL)
            & (header["frac"] < self._ticks)
        )

    def _scan_of(self, buffer: Bytes, found: Ints, end: int) -> Scan | None:
        frames = self._frames(buffer, found)
        if (frames.captured > self._max_record).any():
            return None
        after = int(frames.start[-1] + frames.captured[-1])
        if after > end:
            return Scan(frames[:-1], int(found[-1]))
        return Scan(frames, after)

    def _frames(self, buffer: Bytes, positions: Ints) -> Frames:
        header = self._headers(buffer, positions)
        captured = header["incl"].astype(np.int64)
        return Frames(
            start=positions + _RECORD,
            captured=captured,
            original=np.maximum(header["orig"].astype(np.int64), captured),
            time=header["sec"] + header["frac"] / self._ticks,
            link=np.broadcast_to(np.int64(self._link), len(positions)),
        )
