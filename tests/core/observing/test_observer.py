# SPDX-License-Identifier: GPL-2.0-or-later
"""Observer: which dumps took place, and what is here of them, told from traffic alone."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address
from itertools import chain
from random import Random

import pytest
from helpers.observing import Observed, facts, observe
from helpers.traffic import (
    CLIENT,
    SERVER,
    START,
    Datagram,
    Dump,
    batch,
    coalesced,
    header,
    key_blob,
    mirrored,
    seqno_of,
    snapped,
)
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import formats
from scapy_netdump.core.observing.selection import Selection
from scapy_netdump.core.verdict import Kind

SIZE = 150_000
VMCORE = Random(1).randbytes(SIZE)
OTHER_VMCORE = Random(2).randbytes(SIZE)
KDH = header(SIZE)
DUMP = Dump(vmcore=VMCORE, kdh=KDH, path=b"lab\0")

#: The number of messages in DUMP: the HERALD, 64 KiB in 46 twice, the rest, KDH, FINISHED.
MESSAGES = 1 + 46 + 46 + 14 + 1 + 1


def assert_whole(observed: Observed, vmcore: bytes = VMCORE) -> None:
    assert observed.dump.account.complete
    assert observed.dump.account.missing == []
    assert observed.dump.account.conflicting_bytes == 0
    assert observed.vmcore() == vmcore


# One dump


def test_a_clean_dump_is_whole():
    observed = observe(DUMP.traffic())
    assert_whole(observed)
    dump = observed.dump
    assert facts(dump) == {
        "peer": (ip_address(CLIENT).packed, 20024, ip_address(SERVER).packed, 41885),
        "path": b"lab",
        "heralded": True,
        "finished": True,
        "complete": True,
        "expected": SIZE,
        "received": SIZE,
        "missing": [],
        "kdh": KDH,
        "key": b"",
        "messages": MESSAGES,
        "retransmitted": 0,
        "conflicting": 0,
        "times": (START, DUMP.traffic()[-2].time),
    }


def test_a_mirror_port_that_shows_each_frame_twice_adds_nothing_but_repeats():
    observed = observe(mirrored(DUMP.traffic()))
    assert_whole(observed)
    assert observed.dump.messages == 2 * MESSAGES
    assert observed.dump.retransmitted == MESSAGES


def test_super_frames_of_messages_and_acks_are_a_dump_like_any_other():
    windowed = replace(DUMP, window=46)
    single, merged = observe(windowed.traffic()), observe(coalesced(windowed.traffic()))
    assert_whole(merged)
    assert merged.dump.messages == single.dump.messages
    assert merged.dump.retransmitted == 0


def test_loss_seen_by_the_client_is_retransmission():
    observed = observe(replace(DUMP, loss=0.1, window=46).traffic())
    assert_whole(observed)
    assert observed.dump.retransmitted == observed.dump.messages - MESSAGES > 0


def test_what_the_capture_missed_is_missing_to_the_byte():
    traffic = DUMP.traffic()
    observed = observe([seen for seen in traffic if seqno_or_none(seen) not in {10, 11, 30}])
    account = observed.dump.account
    assert account.finished
    assert not account.complete
    assert account.missing == [(8 * 1448, 10 * 1448), (28 * 1448, 29 * 1448)]
    assert account.bytes_received == SIZE - 3 * 1448


def seqno_or_none(seen: Datagram) -> int | None:
    return None if seen.dport == formats.ACK_PORT else seqno_of(seen)


def test_a_capture_that_starts_in_the_middle():
    traffic = DUMP.traffic()
    observed = observe(traffic[60:])
    account = observed.dump.account
    assert (account.heralded, account.finished, account.path) == (False, True, b"")
    assert account.missing == [(0, 29 * 1448)]
    assert observed.vmcore()[29 * 1448 :] == VMCORE[29 * 1448 :]


def test_a_capture_that_ends_early():
    observed = observe(DUMP.traffic()[:60])
    account = observed.dump.account
    assert (account.heralded, account.finished, account.complete) == (True, False, False)
    assert account.bytes_expected == account.bytes_received == 29 * 1448


def test_no_header():
    observed = observe(replace(DUMP, kdh=b"").traffic())
    assert_whole(observed)
    assert observed.dump.account.header is None


def test_no_header_and_not_finished_is_not_complete():
    observed = observe(replace(DUMP, kdh=b"", finished=False).traffic())
    assert not observed.dump.account.complete
    assert observed.dump.account.missing == []


def test_header_first():
    assert_whole(observe(replace(DUMP, kdh_first=True).traffic()))


def test_no_acks_at_all():
    assert_whole(observe(replace(DUMP, acked=False).traffic()))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_key_in_three_fragments_in_any_order(order):
    key = key_blob(Random(3))
    herald, fragments, *rest = replace(DUMP, key=key, acked=False).chunks()
    assert len(fragments) == 3
    traffic = [*herald, *(fragments[number] for number in order), *chain(*rest)]
    observed = observe(traffic)
    assert_whole(observed)
    assert bytes(observed.dump.account.key) == key


def test_part_of_a_key_is_known_up_to_the_first_hole():
    key = Random(3).randbytes(4096)
    herald, fragments, *rest = replace(DUMP, key=key, acked=False).chunks()
    observed = observe([*herald, fragments[0], fragments[2], *chain(*rest)])
    assert bytes(observed.dump.account.key) == key[:1448]


def test_a_compressed_dump_padded_beyond_its_length_is_complete():
    kdh = header(SIZE - 1000, compression=2)
    observed = observe(replace(DUMP, kdh=kdh).traffic())
    account = observed.dump.account
    assert account.complete
    assert account.bytes_expected == account.bytes_received == SIZE - 1000
    assert observed.vmcore()[: SIZE - 1000] == VMCORE[: SIZE - 1000]


def test_the_length_in_a_header_with_wrong_parity_is_not_trusted():
    observed = observe(replace(DUMP, kdh=header(1 << 50, parity=1)).traffic())
    account = observed.dump.account
    assert account.missing == []
    assert account.bytes_expected == SIZE
    assert str(account.verdict) == "Dump contradicted: dump header with a wrong parity"


def test_a_second_header_that_differs_is_a_conflict_and_the_first_is_kept():
    *traffic, finished, ack = DUMP.traffic()
    second = DUMP.message(formats.KDH, 200, 0, header(SIZE, hostname=b"forged.example.org!"))
    observed = observe([*traffic, second, DUMP.ack(200), finished, ack])
    account = observed.dump.account
    assert account.kdh == KDH
    assert len(account.other_headers) == 1
    assert account.conflicting_bytes > 6
    assert "2 dump headers that differ" in account.verdict.reason
    assert observed.vmcore() == VMCORE


def test_a_header_longer_than_512_bytes_is_cut():
    observed = observe(replace(DUMP, kdh=KDH + b"extra").traffic())
    assert_whole(observed)
    assert bytes(observed.dump.account.kdh) == KDH


def test_a_header_shorter_than_512_bytes_is_none():
    observed = observe(replace(DUMP, kdh=KDH[:500]).traffic())
    account = observed.dump.account
    assert account.header is None
    assert account.verdict.reason == "dump header of 500 bytes instead of 512"


def test_finished_repeated():
    traffic = DUMP.traffic()
    observed = observe([*traffic, traffic[-2], traffic[-2]])
    assert_whole(observed)
    assert observed.dump.messages == MESSAGES + 2
    assert observed.dump.retransmitted == 2


@pytest.mark.parametrize("size", [100, 24, 10, 0])
def test_bytes_cut_by_a_snap_length_are_missing(size):
    dump = replace(DUMP, kdh=b"")
    observed = observe(dump.traffic()[:2] + snapped(dump.traffic()[2:], size))
    kept = max(0, size - 24)
    account = observed.dump.account if observed.dumps else None
    if size < 24:
        assert account is None or account.bytes_received == 0
    else:
        assert account.bytes_expected == SIZE
        assert account.bytes_received == kept * 106
        assert not account.complete
    assert observed.observer.snapped > 100


def test_a_last_message_cut_by_a_snap_length_is_not_complete_without_a_header():
    *traffic, last, ack, finished, finished_ack = replace(DUMP, kdh=b"").traffic()
    observed = observe([*traffic, *snapped([last], 100), ack, finished, finished_ack])
    account = observed.dump.account
    assert account.missing == [(SIZE - len(last.payload) + 100, SIZE)]
    assert not account.complete


def test_an_empty_message_far_away_makes_nothing_missing():
    *traffic, finished, ack = replace(DUMP, kdh=b"").traffic()
    assert_whole(observe([*traffic, DUMP.message(formats.VMCORE, 9, 1 << 40), finished, ack]))


# Clients and servers of all kinds


def test_a_client_with_a_port_of_its_own_and_acks_to_that():
    assert_whole(observe(replace(DUMP, client_port=5555).traffic()))


def test_a_client_with_a_port_of_its_own_and_acks_to_the_usual_one():
    observed = observe(replace(DUMP, client_port=5555, ack_port=formats.ACK_PORT).traffic())
    assert_whole(observed)
    assert observed.dump.peer.client_port == 5555


def test_acks_decide_conflicts_also_if_they_go_to_another_port_than_the_clients():
    dump = replace(DUMP, client_port=5555, ack_port=formats.ACK_PORT, acked=False)
    damaged, true = (dump.message(formats.VMCORE, 2, 0, data) for data in (b"bad", b"yes"))
    herald, *_, finished = dump.chunks()
    observed = observe([*herald, damaged, true, dump.ack(2), *finished])
    assert observed.vmcore() == b"yes"


def test_a_server_that_answers_from_the_herald_port():
    observed = observe(replace(DUMP, server_port=formats.HERALD_PORT).traffic())
    assert_whole(observed)
    assert observed.dump.server_port == formats.HERALD_PORT


def test_a_server_that_happens_to_take_port_20024():
    assert_whole(observe(replace(DUMP, server_port=formats.ACK_PORT).traffic()))


def test_ipv6():
    observed = observe(replace(DUMP, client="2001:db8::2", server="2001:db8::1").traffic())
    assert_whole(observed)


def test_netdumpds_test_client():
    """HERALD 0, VMCORE from 1, FINISHED 0, rubbish in aux2, payloads of 1000, no KDH."""
    dump = Dump(vmcore=VMCORE, first_seqno=0, finished_seqno=0, aux2=0xDEADBEEF, payload=1000)
    observed = observe(dump.traffic())
    assert observed.vmcore() == VMCORE
    assert observed.dump.account.verdict.kind is Kind.UNKNOWN  # its FINISHED tells no end
    assert observe(replace(dump, kdh=DUMP.kdh).traffic()).dump.account.complete
    assert observed.dump.retransmitted == 0


def test_seqnos_that_wrap():
    dump = replace(DUMP, first_seqno=(1 << 32) - 110)
    assert_whole(observe(dump.traffic()))


def test_dumps_are_listed_in_the_order_in_which_they_began():
    first, other = (replace(DUMP, server_port=port) for port in (50000, 50001))
    traffic = [*other.traffic()[2:4], *first.traffic()[2:4]]
    swapped = batch(traffic)
    swapped.flows.reverse()
    renumbered = replace(swapped, flow=len(swapped.flows) - 1 - swapped.flow)
    observed = Observed()
    observed.observer.observe(renumbered)
    assert [dump.server_port for dump in observed.dumps] == [50001, 50000]


def test_only_the_dumps_that_are_wanted():
    dumps = [replace(DUMP, client=f"10.99.1.{host}", path=b"") for host in range(3)]
    traffic = list(chain(*(dump.traffic() for dump in dumps)))
    wanted = Selection(client=ip_address("10.99.1.1").packed)
    observed = observe(traffic, selection=wanted)
    assert_whole(observed)
    assert observed.dump.peer.client == wanted.client


# Conflicts


def conflicting(*, last: bytes, acks: str) -> list[Datagram]:
    """A dump of which one message was seen damaged first, then right."""
    traffic = replace(DUMP, acked=False).traffic()
    damaged = traffic[10]._replace(payload=traffic[10].payload[:-4] + last)
    ack = [DUMP.ack(seqno_of(traffic[10]))]
    before, after = (ack if place in acks else [] for place in ("before", "after"))
    return [*traffic[:10], damaged, *before, traffic[10], *after, *traffic[11:]]


@pytest.mark.parametrize("cuts", [(), (10,), (11,), (12,), range(9, 15)])
def test_of_two_payloads_the_one_that_was_acked_is_kept(cuts):
    observed = observe(conflicting(last=b"\0\0\0\0", acks="after"), cuts=cuts)
    assert observed.vmcore() == VMCORE
    assert observed.dump.account.conflicting_bytes == 4
    observed = observe(conflicting(last=b"\0\0\0\0", acks="before and after"), cuts=cuts)
    assert observed.vmcore() != VMCORE
    assert observed.dump.account.conflicting_bytes == 4
    assert observed.dump.account.missing == []
    assert observed.dump.account.verdict.kind is Kind.CONTRADICTED


def test_of_two_payloads_without_acks_the_first_is_kept():
    end = 10 * 1448
    damaged = bytes([VMCORE[end - 1] ^ 1])
    observed = observe(conflicting(last=VMCORE[end - 4 : end - 1] + damaged, acks=""))
    assert observed.vmcore()[end - 1 : end] == damaged
    assert observed.dump.account.conflicting_bytes == 1


# Hostile


def test_what_is_malformed_is_ignored_and_counted():
    traffic = DUMP.traffic()
    wrong_length = traffic[10]._replace(payload=traffic[10].payload + b"more")
    too_far = DUMP.message(formats.VMCORE, 5, (1 << 44) + 1, b"far")
    unknown = traffic[10]._replace(payload=struct.pack("!I", 77) + traffic[10].payload[4:])
    observed = observe([*traffic[:50], wrong_length, too_far, unknown, *traffic[50:]])
    assert_whole(observed)
    assert observed.observer.malformed == 3


def test_no_byte_is_taken_beyond_the_furthest_offset():
    observed = observe([DUMP.message(formats.VMCORE, 5, (1 << 44) - 1, b"far")], selection=None)
    assert list(observed.dump.account.vmcore) == [((1 << 44) - 1, 1 << 44)]


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.sampled_from([20023, 20024, 41885])), max_size=30)
)
def test_random_bytes_on_netdumps_ports_do_no_harm(seen):
    observe(
        [
            Datagram(START, CLIENT, formats.ACK_PORT, SERVER, port, payload)
            if port != 20024
            else Datagram(START, SERVER, 41885, CLIENT, port, payload)
            for payload, port in seen
        ]
    )
