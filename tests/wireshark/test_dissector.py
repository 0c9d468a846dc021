# SPDX-License-Identifier: GPL-2.0-or-later
"""The dissector in tshark: what it says of transfers that were made up for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from helpers import wireshark
from helpers.wireshark import PCAPS, PREFIX, SAMPLES, SCRIPT, capture_of, needs_tshark
from scapy.all import ICMP, IP, UDP, Raw

from scapy_netdump import KernelDumpHeader, KernelDumpKey, Netdump, NetdumpAck, NetdumpHerald

pytestmark = needs_tshark

CLIENT, SERVER = "192.0.2.2", "192.0.2.1"
DATA_PORT = 41885


class Talk:
    """A client and its server; each call is a packet of theirs."""

    def __init__(self, port: int = 20024, data_port: int = DATA_PORT) -> None:
        self.port, self.data_port = port, data_port

    def up(self, message: Any, dport: int | None = None) -> Any:
        udp = UDP(sport=self.port, dport=dport or self.data_port)
        return IP(src=CLIENT, dst=SERVER) / udp / message

    def herald(self, seqno: int = 1, path: str = "") -> Any:
        return self.up(Netdump(type=1, seqno=seqno) / NetdumpHerald(path=path), 20023)

    def data(self, seqno: int, offset: int, size: int = 100, **fields: Any) -> Any:
        return self.up(Netdump(type=3, seqno=seqno, offset=offset, **fields) / Raw(b"x" * size))

    def kdh(self, seqno: int, **fields: Any) -> Any:
        return self.up(Netdump(type=4, seqno=seqno) / KernelDumpHeader(**fields))

    def finished(self, seqno: int) -> Any:
        return self.up(Netdump(type=2, seqno=seqno))

    def ack(self, *seqnos: int) -> Any:
        acks = b"".join(bytes(NetdumpAck(seqno=seqno)) for seqno in seqnos)
        udp = UDP(sport=self.data_port, dport=self.port)
        return IP(src=SERVER, dst=CLIENT) / udp / Raw(acks)

    def dump(self, pieces: int = 3) -> Iterator[Any]:
        seqnos = count(1)
        seqno = next(seqnos)
        yield from (self.herald(seqno), self.ack(seqno))
        for number in range(pieces):
            seqno = next(seqnos)
            yield from (self.data(seqno, 100 * number), self.ack(seqno))
        seqno = next(seqnos)
        yield from (self.kdh(seqno, dumplength=100 * pieces), self.ack(seqno))
        seqno = next(seqnos)
        yield from (self.finished(seqno), self.ack(seqno))


def notes(capture: Path, passes: int = 2) -> list[tuple[int, str]]:
    """The expert notes of netdump: frame, name."""
    wanted = ("-Y", "_ws.expert", "-T", "pdml")
    two = ("-2",) if passes == 2 else ()
    found, frame = [], 0
    for line in wireshark.run("-n", *two, "-r", capture, *wanted).splitlines():
        if 'name="num"' in line:
            frame = int(line.partition('show="')[2].partition('"')[0])
        elif f'name="{PREFIX}note.' in line:
            found.append((frame, line.partition(f"{PREFIX}note.")[2].partition('"')[0]))
    return found


def test_the_protocol_is_listed_and_is_not_red_hats() -> None:
    listed = [line.split("\t") for line in wireshark.run("-G", "protocols").splitlines()]
    assert ["FreeBSD netdump", "FBSD_NETDUMP", "fbsd_netdump"] in listed
    assert ["Netdump Protocol", "Netdump", "netdump"] in listed
    fields = wireshark.run("-G", "fields").splitlines()
    ours = [line.split("\t")[2] for line in fields if "\tfbsd_netdump\t" in line]
    assert len(ours) > 60
    assert all(name.startswith(PREFIX) for name in ours)


def test_loading_it_twice_is_harmless() -> None:
    capture = PCAPS / "path.pcap"
    twice = ("-X", f"lua_script:{SCRIPT}")
    assert infos_of(capture, *twice) == infos_of(capture)


def infos_of(capture: Path, *options: str) -> list[str]:
    return wireshark.infos(capture, options=options)


def test_the_info_column_reads_like_a_transfer(tmp_path: Path) -> None:
    talk = Talk()
    header = {"panicstring": "page fault", "dumplength": 3 << 20, "compression": 2}
    made = [
        *(talk.herald(path="lab"), talk.ack(1), talk.data(812, 0x11F000, 1448), talk.ack(812)),
        *(talk.kdh(813, **header), talk.finished(814), talk.herald(9)),
    ]
    assert infos_of(capture_of(tmp_path / "c", made)) == [
        'HERALD path "lab"',
        "ACK 1",
        "VMCORE seq 812 off 0x11f000 len 1448 [1175552 bytes skipped]",
        "ACK 812",
        'KDH amd64 "page fault" 3.0 MiB zstd',
        "FINISHED [3144280 bytes missing in 2 ranges]",
        "HERALD",
    ]


def test_offsets_are_exact(tmp_path: Path) -> None:
    offsets = [0, 2**32 + 1, 2**53 + 1, 2**64 - 1]
    made = [Talk().data(2 + n, offset) for n, offset in enumerate(offsets)]
    capture = capture_of(tmp_path / "c", made)
    assert wireshark.column(capture, "offset") == [str(offset) for offset in offsets]
    assert "off 0xffffffffffffffff" in infos_of(capture)[3]
    assert [name for _, name in notes(capture) if name == "far"] == ["far"] * 2


def test_messages_and_acks_point_at_each_other(tmp_path: Path) -> None:
    capture = capture_of(tmp_path / "c", Talk().dump())
    found = wireshark.rows(capture, "acked_in", "ack_to", "ack_time")
    for number in range(0, len(found), 2):
        assert found[number] == [[str(number + 2)], [], []]
        assert found[number + 1][1] == [str(number + 1)]
        assert float(found[number + 1][2][0]) == pytest.approx(0.001)
    assert notes(capture) == []
    single = wireshark.rows(capture, "acked_in", "ack_to", passes=1)
    assert [row[1] for row in single] == [row[1] for row in found]


def test_where_data_follows_on_and_how_much_came(tmp_path: Path) -> None:
    talk = Talk()
    offsets = (0, 100, 300, 400, 200, 500)
    made = [talk.data(2 + n, offset) for n, offset in enumerate(offsets)]
    found = wireshark.rows(capture_of(tmp_path / "c", made), "expected_offset", "gap", "received")
    assert [row[0] for row in found] == [["0"], ["100"], ["200"], ["400"], ["500"], ["500"]]
    assert [row[1] for row in found] == [[], [], ["100"], [], [], []]
    assert [row[2] for row in found] == [["100"], ["200"], ["300"], ["400"], ["500"], ["600"]]


def test_a_message_that_comes_again(tmp_path: Path) -> None:
    talk = Talk()
    again = [talk.data(2, 0), talk.data(3, 100), talk.data(2, 0), talk.ack(3), talk.ack(2)]
    capture = capture_of(tmp_path / "c", [talk.herald(), talk.ack(1), *again, *talk_end(4)])
    names = ("retransmission_of", "resent_in", "acked_in", "retransmission")
    found = wireshark.rows(capture, *names)
    assert found[2] == [[], ["5"], [], []]
    assert found[4][:3] == [["3"], [], ["7"]]
    assert len(found[4][3]) == 1
    assert notes(capture) == [(5, "retransmission")]


def talk_end(seqno: int) -> list[Any]:
    talk = Talk()
    return [talk.finished(seqno), talk.ack(seqno)]


def test_what_the_expert_says(tmp_path: Path) -> None:
    talk = Talk()
    made = [
        *(talk.herald(), talk.ack(1), talk.data(2, 0), talk.ack(2)),
        *(talk.ack(2), talk.ack(77), talk.data(3, 50), talk.ack(3)),
        *(talk.data(4, 200), talk.data(5, 300, len=7), talk.up(Netdump(type=9, seqno=6))),
        *(talk.kdh(7, magic=b"what", parity=1), talk.ack(7), talk.data(8, 400, 4097)),
        *(talk.ack(8), talk.data(8, 9000), talk.ack(8), talk.finished(9), talk.ack(9)),
        *(talk.up(Raw(b"runt")), talk.up(b"1234567"), talk.up(b"x" * 30, 20023)),
    ]
    assert notes(capture_of(tmp_path / "c", made)) == [
        *((5, "duplicate_ack"), (6, "unexpected_ack"), (7, "overlap"), (9, "gap")),
        *((9, "never_acked"), (10, "length"), (11, "type"), (12, "magic"), (12, "parity")),
        *((14, "refused"), (14, "gap"), (16, "gap"), (16, "other_place"), (18, "bytes_missing")),
        *((20, "runt"), (21, "runt"), (22, "type")),
    ]


def test_a_herald_and_a_finished_that_come_again(tmp_path: Path) -> None:
    talk = Talk()
    made = [talk.herald(), talk.herald(), talk.ack(1), talk.data(2, 0), talk.ack(2)]
    made += [talk.finished(3), talk.finished(3), talk.ack(3)]
    found = wireshark.rows(capture_of(tmp_path / "c", made), "retransmission", "retransmission_of")
    assert [number for number, row in enumerate(found, 1) if row[0]] == [2, 7]
    assert [row[1] for row in found if row[1]] == [["1"], ["6"]]


def test_a_dump_that_breaks_off_says_where(tmp_path: Path) -> None:
    talk = Talk()
    made = [talk.herald(), talk.ack(1), talk.data(2, 0), talk.ack(2), talk.data(3, 100)]
    capture = capture_of(tmp_path / "c", made)
    found = wireshark.rows(capture, "broken_off", "received")
    assert [number for number, row in enumerate(found, 1) if row[0]] == [5]
    assert infos_of(capture)[4].endswith("[breaks off]")


@pytest.mark.parametrize("passes", [1, 2])
def test_a_client_on_another_port_is_followed(tmp_path: Path, passes: int) -> None:
    capture = capture_of(tmp_path / "c", Talk(port=31234).dump())
    assert len(wireshark.column(capture, "dump", passes=passes)) == 12
    assert wireshark.column(capture, "missing", passes=passes) == ["0"]
    assert len(wireshark.column(capture, "ack_to", passes=passes)) == 6


def test_a_server_port_that_means_something_else_to_wireshark(tmp_path: Path) -> None:
    capture = capture_of(tmp_path / "c", Talk(port=31234, data_port=47808).dump())  # BACnet
    usual = capture_of(tmp_path / "d", Talk(data_port=47808).dump())
    assert len(wireshark.column(usual, "dump")) == 12
    assert len(wireshark.column(capture, "dump")) >= 1


def test_a_server_that_acks_to_the_usual_port_of_a_client_behind_nat(tmp_path: Path) -> None:
    talk, usual = Talk(port=31234), Talk()
    made = [talk.herald(), usual.ack(1), talk.data(2, 0), usual.ack(2), talk.finished(3)]
    found = wireshark.rows(capture_of(tmp_path / "c", [*made, usual.ack(3)]), "ack_to")
    assert [row[0] for row in found] == [[], ["1"], [], ["3"], [], ["5"]]


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ([], 10),
        (["-o", "fbsd_netdump.heuristic:FALSE"], 0),
        (["-o", "fbsd_netdump.heuristic:FALSE", "-d", "udp.port==31234,fbsd_netdump"], 10),
        (["-o", "fbsd_netdump.heuristic:FALSE", "-o", "fbsd_netdump.client_ports:20024,31234"], 10),
    ],
)
def test_a_capture_that_starts_in_the_middle(tmp_path: Path, options: list[str], seen: int) -> None:
    made = list(Talk(port=31234).dump())[2:]
    capture = capture_of(tmp_path / "c", made)
    assert len(wireshark.column(capture, "seqno", options=options)) == seen


def test_another_port_for_heralds(tmp_path: Path) -> None:
    talk = Talk(port=31234)
    made = [talk.up(Netdump(type=1, seqno=1), 30023), talk.ack(1), talk.data(2, 0)]
    capture = capture_of(tmp_path / "c", made)
    options = ["-o", "fbsd_netdump.server_ports:20023,30020-30025"]
    options += ["-o", "fbsd_netdump.heuristic:FALSE"]
    assert wireshark.column(capture, "dump", options=options) == ["1", "1", "1"]


def test_icmp_errors_that_quote_are_neither_acks_nor_messages(tmp_path: Path) -> None:
    talk = Talk()
    unreachable = IP(src=CLIENT, dst=SERVER) / ICMP(type=3, code=3) / talk.ack(2)
    refused = IP(src=SERVER, dst=CLIENT) / ICMP(type=3, code=3) / talk.data(2, 0)
    made = [talk.herald(), talk.ack(1), talk.data(2, 0), unreachable, refused, talk.ack(2)]
    capture = capture_of(tmp_path / "c", made)
    found = wireshark.rows(capture, "ack", "seqno", "ack_to", "retransmission", "quoted")
    assert [bool(row[0]) for row in found] == [False, True, False, False, False, True]
    assert found[3][:4] == found[4][:4] == [[], [], [], []]
    assert [len(row[4]) for row in found] == [0, 0, 0, 1, 1, 0]
    assert found[5][2] == ["3"]
    assert "ICMP" in wireshark.run("-r", capture).splitlines()[3]


def test_several_messages_and_acks_in_a_datagram(tmp_path: Path) -> None:
    talk = Talk()
    parts = [Netdump(type=3, seqno=2 + n, offset=100 * n) / Raw(b"x" * 100) for n in range(3)]
    together = talk.up(Raw(b"".join(map(bytes, parts))))
    made = [talk.herald(), talk.ack(1), together, talk.ack(2, 3, 4), *talk_end(5)]
    capture = capture_of(tmp_path / "c", made)
    found = wireshark.rows(capture, "seqno", "acked_in", "ack_to", "received")
    assert found[2] == [["2", "3", "4"], ["4"] * 3, [], ["100", "200", "300"]]
    assert found[3] == [["2", "3", "4"], [], ["3"] * 3, []]
    assert infos_of(capture)[2:4] == [
        "VMCORE seq 2 off 0x0 len 100 (and 2 more)",
        "ACK 2 to 4 (3 acks)",
    ]


def test_dumps_are_numbered_in_the_capture_and_by_client(tmp_path: Path) -> None:
    first, second = Talk(), Talk(data_port=51000)
    capture = capture_of(tmp_path / "c", [*first.dump(), *second.dump()])
    found = wireshark.rows(capture, "dump", "client", "client_dump")
    assert [row[0] for row in found] == [["1"]] * 12 + [["2"]] * 12
    assert found[0] == [["1"], [CLIENT], ["1"]]
    assert found[12] == [["2"], [CLIENT], ["2"]]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_of_the_dump_header(tmp_path: Path, version: int) -> None:
    values = {"hostname": "crash", "panicstring": "p" * 170, "blocksize": 512, "dumptime": 1}
    capture = capture_of(tmp_path / "c", [Talk().kdh(5, version=version, **values)])
    names = ("kdh.version", "kdh.hostname", "kdh.panicstring", "kdh.blocksize", "kdh.parity_ok")
    (found,) = wireshark.rows(capture, *names)
    assert found[:4] == [[str(version)], ["crash"], ["p" * 170], ["512"]]
    assert found[4][0] in ("1", "True")


def test_a_key_is_decoded_only_where_it_begins(tmp_path: Path) -> None:
    talk = Talk()
    blob = bytes(KernelDumpKey(iv=b"i" * 32, encryptedkey=b"k" * 256)) + bytes(100)
    pieces = [(2, 0, blob[:200]), (3, 200, blob[200:])]
    made = [talk.up(Netdump(type=5, seqno=n, offset=at) / Raw(data)) for n, at, data in pieces]
    capture = capture_of(tmp_path / "c", made)
    first, second = wireshark.rows(capture, "key.encryptedkeysize", "key.encryptedkey", "data")
    assert first == [["256"], ["6b" * (200 - 37)], []]
    assert second == [[], [], [blob[200:].hex()]]


def test_the_minidump_header_in_the_first_message() -> None:
    capture = PCAPS / "kernel-clean.pcap.gz"
    assert wireshark.column(capture, "minidump.magic") == ["minidump FreeBSD/amd64"]
    assert wireshark.column(capture, "minidump.kernbase") == ["0xfffffe0000000000"]


@pytest.mark.parametrize("name", [name for name in SAMPLES if "kernel" not in name])
def test_a_second_look_shows_what_the_first_did(name: str) -> None:
    fields = ("dump", "ack_to", "retransmission_of", "expected_offset", "received", "missing")
    once, twice = (wireshark.rows(PCAPS / name, *fields, passes=passes) for passes in (1, 2))
    assert once == twice


def test_names_of_hosts_do_not_tear_a_dump_apart(tmp_path: Path) -> None:
    capture = capture_of(tmp_path / "c", Talk().dump())
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{CLIENT} same\n{SERVER} same\n")
    command = ["tshark", "-X", f"lua_script:{SCRIPT}", "-2", "-N", "n", "-H", str(hosts)]
    fields = ["-T", "fields", "-e", f"{PREFIX}dump", "-e", f"{PREFIX}ack_to"]
    shown = subprocess.run(
        [*command, "-r", str(capture), *fields], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line.split("\t")[0] for line in shown] == ["1"] * 12
    assert [line.split("\t")[1] for line in shown][1::2] == ["1", "3", "5", "7", "9", "11"]
