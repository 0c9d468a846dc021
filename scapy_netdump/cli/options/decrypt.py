# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump decrypt``: decryptcore(8)'s, and a few more."""

from __future__ import annotations

from .common import EXITS, Commands


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "decrypt",
        help="decrypt a kernel dump",
        description="Decrypt a kernel dump, with the options of FreeBSD's decryptcore(8). If a "
        "mapfile beside it says that bytes are missing, what can be decrypted is, and a mapfile "
        "of the result says what is not.",
        usage="netdump decrypt [-fv] [--decompress] -p PRIVATEKEY -k KEY -e ENCRYPTEDCORE -c CORE\n"
        "       netdump decrypt [-fv] [--decompress] [-d DIR] -p PRIVATEKEY -n N",
        epilog=EXITS,
    )
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY", required=True,
        help="the RSA private key, in PEM form; a passphrase is asked for on the terminal",
    )  # fmt: skip
    parser.add_argument("-k", dest="key", metavar="KEY", help="the key file of the dump")
    parser.add_argument("-e", dest="encrypted", metavar="ENCRYPTEDCORE", help="what to decrypt")
    parser.add_argument("-c", dest="core", metavar="CORE", help="the file to write")
    parser.add_argument(
        "-d", dest="directory", metavar="DIR",
        help="the dump directory to find the files in (default: /var/crash)",
    )  # fmt: skip
    parser.add_argument(
        "-n", dest="number", metavar="N",
        help="the number of the dump in it; HOST.N where several hosts have it",
    )  # fmt: skip
    parser.add_argument("-f", dest="force", action="store_true", help="replace an old core")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="say more")
    parser.add_argument(
        "--decompress", action="store_true", help="decompress it too, if it is compressed"
    )
    parser.add_argument("--json", action="store_true", help="print an object about the result")
