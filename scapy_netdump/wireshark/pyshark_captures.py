# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures in pyshark, an extra, with the dissector loaded.

    with netdump_capture("panic.pcapng") as packets:
        for packet in packets:
            print(packet.fbsd_netdump.get("offset"))

pyshark 0.6 asks asyncio for the event loop of the thread. There is none after asyncio.run(), nor
from Python 3.14 on, and one that a capture closed serves no other. So each gets one of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .install import SCRIPT_NAME, WiresharkError

try:
    import pyshark  # type: ignore[import-untyped, import-not-found, unused-ignore]
    from pyshark.capture.capture import (  # type: ignore[import-untyped, import-not-found, unused-ignore]
        TSharkCrashException,
    )
except ImportError:
    raise WiresharkError("pyshark is not installed: pip install 'scapy-netdump[pyshark]'") from None

#: What asyncio takes for the status of a process whose end somebody else has seen already, as
#: Popen.kill() does; tshark never returns it.
_SEEN_ELSEWHERE = 255

_SCRIPT = Path(__file__).with_name(SCRIPT_NAME)


class _Capture(pyshark.FileCapture):  # type: ignore[misc]
    async def _cleanup_subprocess(self, process: Any) -> None:
        try:
            await super()._cleanup_subprocess(process)
        except TSharkCrashException:
            if process.returncode != _SEEN_ELSEWHERE:
                raise


@contextmanager
def netdump_capture(path: str | Path, **options: Any) -> Iterator[Any]:
    """A pyshark FileCapture of netdump packets; ``options`` are FileCapture's.

    tshark looks at the capture twice, so that messages know their acks.
    """
    options.setdefault("display_filter", "fbsd_netdump")
    parameters = [*options.pop("custom_parameters", []), "-2", "-X", f"lua_script:{_SCRIPT}"]
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        capture = _Capture(str(path), eventloop=loop, custom_parameters=parameters, **options)
        try:
            yield capture
        finally:
            capture.close()
    finally:
        asyncio.set_event_loop(None)
        loop.close()
