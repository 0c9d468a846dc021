# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump recover``."""

from __future__ import annotations

import argparse

from .common import EXITS, Commands, add_selection


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "recover",
        help="rebuild the dumps in packet captures",
        description="Rebuild every dump in some captures (pcap or pcapng, plain, gzip or zstd), "
        "with the file names of a netdump server, and say which bytes are missing. Captures of "
        "the same dump fill each other's holes, and those of a dump that was recovered before.",
        epilog=EXITS,
    )
    parser.add_argument("captures", metavar="CAPTURE", nargs="*", help="- is standard input")
    parser.add_argument("-i", dest="interface", metavar="IFACE", help="capture live; ends with ^C")
    _add_places(parser)
    _add_plain(parser)
    add_selection(parser)
    parser.add_argument(
        "--prefer", choices=("acked", "first", "last"), default="acked",
        help="which of different payloads for the same bytes is kept: the one acked first, or "
        "what was seen first or last in the order of the captures; a file that is continued "
        "counts as first, and only last replaces bytes of it (default: acked)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a list with an object a dump")


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Where the files go, and what they are called."""
    group = parser.add_argument_group("where the files go")
    places = group.add_mutually_exclusive_group()
    places.add_argument(
        "-o", dest="directory", metavar="DIR", default=".",
        help="created if need be (default: here). An incomplete dump of the same host in it that "
        "is this one is continued: its holes are filled, and its mapfile shrinks. Any other dump "
        "is left alone, and this one gets a new number",
    )  # fmt: skip
    places.add_argument(
        "--into", metavar="DIR",
        help="continue a dump in DIR, of whatever host, and keep nothing if it is not the same. "
        "Also what netdumpd left, or a server that was killed: as nobody knows its holes, "
        "what is zero there and was not captured counts as missing",
    )  # fmt: skip
    names = group.add_mutually_exclusive_group()
    names.add_argument(
        "--names", action="store_true", help="name files by the clients' names in reverse DNS"
    )
    names.add_argument(
        "--savecore-names", dest="savecore", action="store_true",
        help="name files as savecore(8) does: vmcore.N, info.N, bounds, vmcore.last",
    )  # fmt: skip


def _add_plain(parser: argparse.ArgumentParser) -> None:
    """Decryption and decompression."""
    group = parser.add_argument_group(
        "plain copies",
        "A dump that came encrypted or compressed stays as it is, so that it can be continued. "
        "Beside it these write vmcore.HOST.N, with a mapfile if bytes of it are missing.",
    )
    group.add_argument(
        "--decrypt-with", dest="private_key", metavar="KEY",
        help="decrypt with this RSA private key, in PEM form; a passphrase is asked for on the "
        "terminal",
    )  # fmt: skip
    group.add_argument("--decompress", action="store_true", help="decompress gzip and zstd")
