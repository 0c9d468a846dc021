# SPDX-License-Identifier: GPL-2.0-or-later
"""FreeBSD netdump(4): servers and clients for kernel dumps, their recovery, Scapy layers.

Importing the package imports nothing else: each name below loads its module when it is
first used, because Scapy takes longer to import than a dump takes to recover.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.prepare import Preparation as Preparation
    from .client.prepare import UnfitError as UnfitError
    from .client.send import SendError as SendError
    from .client.send import Sending as Sending
    from .client.send import SendResult as SendResult
    from .client.send import send_dump as send_dump
    from .core.receiving.events import Ended as Ended
    from .core.receiving.events import Event as Event
    from .core.receiving.limits import Limits as Limits
    from .core.sending.sender import Patience as Patience
    from .dump.console import NoConsoleError as NoConsoleError
    from .dump.content import HoleError as HoleError
    from .dump.dump import Dump as Dump
    from .dump.dump import EncryptedError as EncryptedError
    from .dump.open import NoDumpError as NoDumpError
    from .dump.open import open_dump as open_dump
    from .errors import CaptureError as CaptureError
    from .errors import NetdumpError as NetdumpError
    from .errors import StoreError as StoreError
    from .errors import UsageError as UsageError
    from .errors import WaitTimeoutError as WaitTimeoutError
    from .kerneldump.key import EncryptionError as EncryptionError
    from .layers import KernelDumpHeader as KernelDumpHeader
    from .layers import KernelDumpKey as KernelDumpKey
    from .layers import Netdump as Netdump
    from .layers import NetdumpAck as NetdumpAck
    from .layers import NetdumpAcks as NetdumpAcks
    from .layers import NetdumpHerald as NetdumpHerald
    from .layers import NetdumpMessages as NetdumpMessages
    from .net.listening import SocketError as SocketError
    from .net.transport import TransportError as TransportError
    from .recovery.reassembly import reassemble as reassemble
    from .recovery.recoverer import recover as recover
    from .scapy_tools import NetdumpSession as NetdumpSession
    from .scapy_tools import NetdumpSocket as NetdumpSocket
    from .scapy_tools import netdumpd as netdumpd
    from .server.loop import ServeOptions as ServeOptions
    from .server.server import Server as Server
    from .server.server import serve as serve

    __version__: str

_MODULE_OF = {
    "CaptureError": "errors",
    "Dump": "dump.dump",
    "HoleError": "dump.content",
    "EncryptedError": "dump.dump",
    "EncryptionError": "kerneldump.key",
    "Ended": "core.receiving.events",
    "Event": "core.receiving.events",
    "KernelDumpHeader": "layers",
    "KernelDumpKey": "layers",
    "Limits": "core.receiving.limits",
    "Netdump": "layers",
    "NetdumpAck": "layers",
    "NetdumpAcks": "layers",
    "NetdumpError": "errors",
    "NetdumpHerald": "layers",
    "NetdumpMessages": "layers",
    "NetdumpSession": "scapy_tools",
    "NetdumpSocket": "scapy_tools",
    "NoConsoleError": "dump.console",
    "NoDumpError": "dump.open",
    "Patience": "core.sending.sender",
    "Preparation": "client.prepare",
    "SendError": "client.send",
    "SendResult": "client.send",
    "Sending": "client.send",
    "ServeOptions": "server.loop",
    "Server": "server.server",
    "SocketError": "net.listening",
    "StoreError": "errors",
    "TransportError": "net.transport",
    "UnfitError": "client.prepare",
    "UsageError": "errors",
    "WaitTimeoutError": "errors",
    "netdumpd": "scapy_tools",
    "open_dump": "dump.open",
    "reassemble": "recovery.reassembly",
    "recover": "recovery.recoverer",
    "send_dump": "client.send",
    "serve": "server.server",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULE_OF:
        value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    """The installed version; looking it up takes longer than all else that the command loads."""
    installed: str = import_module("importlib.metadata").version("scapy-netdump")
    return installed


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def scapy_ext(ext: Any) -> None:
    """Called by Scapy's `conf.exts.load("scapy-netdump")` with its ScapyExt.

    Makes load_contrib("netdump") work. Only contrib.py is registered: Scapy loads a
    registered file as a module of its own, so registering the layers would make a second
    copy of every class and bind every port twice.
    """
    ext.config("scapy-netdump", _version())
    ext.register("netdump", ext.MODE.CONTRIB, Path(__file__).with_name("contrib.py"))
