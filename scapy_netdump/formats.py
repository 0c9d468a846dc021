# SPDX-License-Identifier: GPL-2.0-or-later
"""netdump's numbers and formats. GENERATED from layers/: do not edit.

Made by `python -m scapy_netdump.generate` so that bulk code need not import Scapy.
Formats are the struct module's; names of fields stand in the order of the format.
"""

from typing import Final

HERALD_PORT: Final = 20023
ACK_PORT: Final = 20024

HERALD: Final = 1
FINISHED: Final = 2
VMCORE: Final = 3
KDH: Final = 4
EKCD_KEY: Final = 5
MESSAGE_TYPES: Final = {1: "HERALD", 2: "FINISHED", 3: "VMCORE", 4: "KDH", 5: "EKCD_KEY"}

NETDUMP_FORMAT: Final = "!IIQII"
NETDUMP_FIELDS: Final = ("type", "seqno", "offset", "len", "aux2")
ACK_FORMAT: Final = "!I"
ACK_FIELDS: Final = ("seqno",)
KEY_FORMAT: Final = "!B32sI"
KEY_FIELDS: Final = ("encryption", "iv", "encryptedkeysize")

# struct kerneldumpheader by its version: format, names of fields.
KDH_LAYOUTS: Final[dict[int, tuple[str, tuple[str, ...]]]] = {
    1: (
        "!20s12sIIQQI64s192s192sI",
        (
            "magic",
            "architecture",
            "version",
            "architectureversion",
            "dumplength",
            "dumptime",
            "blocksize",
            "hostname",
            "versionstring",
            "panicstring",
            "parity",
        ),
    ),
    2: (
        "!20s12sIIQQII64s192s188sI",
        (
            "magic",
            "architecture",
            "version",
            "architectureversion",
            "dumplength",
            "dumptime",
            "dumpkeysize",
            "blocksize",
            "hostname",
            "versionstring",
            "panicstring",
            "parity",
        ),
    ),
    3: (
        "!20s12sIIQQQIIB64s192s179sI",
        (
            "magic",
            "architecture",
            "version",
            "architectureversion",
            "dumplength",
            "dumpextent",
            "dumptime",
            "dumpkeysize",
            "blocksize",
            "compression",
            "hostname",
            "versionstring",
            "panicstring",
            "parity",
        ),
    ),
    4: (
        "!20s12sIIQQII64s192s175sBQ4sI",
        (
            "magic",
            "architecture",
            "version",
            "architectureversion",
            "dumplength",
            "dumptime",
            "dumpkeysize",
            "blocksize",
            "hostname",
            "versionstring",
            "panicstring",
            "compression",
            "dumpextent",
            "unused",
            "parity",
        ),
    ),
}
MAGICS: Final = (b"FreeBSD Kernel Dump", b"FreeBSD Text Dump", b"Cleared Kernel Dump")
COMPRESSIONS: Final = {0: "none", 1: "gzip", 2: "zstd"}
ENCRYPTIONS: Final = {0: "none", 1: "aes-256-cbc", 2: "chacha20"}
