# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``netdump serve`` may still do when it serves, and what it has to have loaded by then."""

from __future__ import annotations

import codecs
import os
from dataclasses import dataclass
from pathlib import Path

from ..server.service.capabilities import DAC_OVERRIDE, FOWNER, CapabilityError, keep_only
from ..server.service.landlock import LandlockError, confine, covered

#: What is loaded when it is first used, which may be when this process can no longer read it:
#: text.printable needs the one, socket.gethostbyaddr the other.
_CODECS = ("unicode_escape", "idna")

#: What Python and the C library may want to read later, if it is there: modules and libraries
#: that are loaded when they are first used.
_LIBRARIES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *(os.path.dirname(os.__file__), str(Path(__file__).parents[1])),
)
#: What the system's resolver reads.
_RESOLVER = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *("/run/systemd/resolve", "/run/resolvconf", "/run/nscd", "/var/run/nscd"),
)

#: What a server that stays root keeps: the directories in DIR may be those of other users. Not
#: CAP_NET_ADMIN, for receive buffers beyond net.core.rmem_max: a kernel has 64 KiB under way,
#: for which the usual maximum is enough, and that right is one over the whole network.
_CAPABILITIES = (DAC_OVERRIDE, FOWNER)


def load_what_is_needed_later() -> None:
    """To be called while this process can read its own files, whoever it becomes."""
    for codec in _CODECS:
        codecs.lookup(codec)


@dataclass(frozen=True, slots=True)
class Confinement:
    """How far a process is confined, in a line for people; ``landlock`` is the version of the
    kernel's interface, ``capabilities`` are those that are left. None: it is not confined so."""

    text: str
    landlock: int | None = None
    capabilities: tuple[str, ...] | None = None


def confine_to(directory: Path, *, names: bool) -> Confinement:
    """Have this thread, and those that it starts, reach nothing but a directory, and with
    ``names`` the system's resolver, as far as this system can do that."""
    version = left = None
    try:
        version = confine([directory], _LIBRARIES + (_RESOLVER if names else ()), tcp=names)
        text = f"confined to {directory} (Landlock {version}): "
        text += ", ".join(covered(version, tcp=names))
    except LandlockError as error:
        text = f"not confined to the dump directory: {error}"
    try:
        left = keep_only(_CAPABILITIES)
        text += f"; capabilities: {', '.join(left) or 'none'}"
    except CapabilityError as error:
        text += f"; rights: {error}"
    return Confinement(text, version, left)
