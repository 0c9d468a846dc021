# SPDX-License-Identifier: GPL-2.0-or-later
"""Attribution: which HERALD, which dump and which capture a message belongs to."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest
from helpers.observing import Observed, observe
from helpers.traffic import (
    START,
    Datagram,
    Dump,
    batch,
    header,
    interleaved,
    lose,
)

from scapy_netdump import formats
from scapy_netdump.core.identity import REBOOT_TIME, RESEND_WINDOW
from scapy_netdump.core.observing.attribution import MAX_DUMPS
from scapy_netdump.core.observing.disputes import Prefer
from scapy_netdump.core.observing.heralds import MAX_HERALDS
from scapy_netdump.core.observing.observed_dump import ObservedDump
from scapy_netdump.core.verdict import Kind

SIZE = 150_000
VMCORE = Random(1).randbytes(SIZE)
OTHER_VMCORE = Random(2).randbytes(SIZE)
KDH = header(SIZE)
DUMP = Dump(vmcore=VMCORE, kdh=KDH, path=b"lab\0")


def later(traffic: list[Datagram], seconds: float) -> list[Datagram]:
    return [seen._replace(time=seen.time + seconds) for seen in traffic]


def assert_whole(observed: Observed, vmcore: bytes = VMCORE) -> None:
    assert observed.dump.account.complete
    assert observed.dump.account.missing == []
    assert observed.dump.account.conflicting_bytes == 0
    assert observed.vmcore() == vmcore


def missing_bytes(dump: ObservedDump) -> list[int]:
    return [at for start, end in dump.account.missing for at in range(start, end)]


# Heralds


def test_a_herald_repeated_before_the_data_is_one_dump():
    herald, ack, *rest = DUMP.traffic()
    observed = observe([herald, herald, ack, herald, *rest])
    assert_whole(observed)
    assert observed.dump.retransmitted == 2


@pytest.mark.parametrize("cuts", [(), (100,), (101,), (100, 101)])
def test_a_late_duplicate_of_the_herald_does_not_split_a_running_dump(cuts):
    traffic = DUMP.traffic()
    observed = observe([*traffic[:100], traffic[0], *traffic[100:]], cuts=cuts)
    assert_whole(observed)
    assert observed.dump.retransmitted == 1


def test_a_late_duplicate_of_the_herald_does_not_split_a_long_dump():
    vmcore = Random(5).randbytes(RESEND_WINDOW + (1 << 19))
    traffic = Dump(vmcore=vmcore, kdh=header(len(vmcore)), server_port=20023).traffic()
    late = [*traffic[:2000], traffic[0], *traffic[2000:]]
    assert_whole(observe(late), vmcore)


def test_a_duplicate_of_the_herald_at_the_very_end_of_the_capture_is_no_dump():
    traffic = DUMP.traffic()[:100]
    observed = observe([*traffic, traffic[0]])
    assert observed.dump.retransmitted == 1


def test_a_herald_that_nothing_followed_is_a_dump_of_which_nothing_is_here():
    observed = observe(DUMP.traffic()[:2])
    account = observed.dump.account
    assert (account.heralded, account.path) == (True, b"lab")
    assert (account.bytes_received, account.complete) == (0, False)


def test_a_herald_in_the_same_words_after_a_dump_that_finished_announced_another():
    traffic = DUMP.traffic()
    observed = observe([*traffic, traffic[0]])
    assert [dump.account.complete for dump in observed.dumps] == [True, False]
    assert observed.dumps[0].retransmitted == 0


def test_a_late_duplicate_of_the_herald_just_before_a_finished_with_a_low_number():
    vmcore = Random(5).randbytes(RESEND_WINDOW + (1 << 19))
    dump = Dump(vmcore=vmcore, first_seqno=0, finished_seqno=0, server_port=20023)
    *traffic, finished, ack = dump.traffic()
    observed = observe([*traffic, traffic[0], finished, ack])
    assert observed.vmcore() == vmcore
    assert observed.dump.account.verdict.kind is Kind.UNKNOWN


@pytest.mark.parametrize("path", [b"lab\0", b"lab", b"lab\0forged\0"])
def test_the_path_ends_at_its_first_nul(path):
    assert observe(replace(DUMP, path=path).traffic()).dump.account.path == b"lab"


def test_a_path_without_end_is_cut():
    observed = observe(replace(DUMP, path=b"a" * 60_000).traffic())
    assert observed.dump.account.path == b"a" * 1024


# Several dumps


def second(**changes: object) -> Dump:
    """Another dump of the same client, ten seconds later."""
    return replace(DUMP, **{"vmcore": OTHER_VMCORE, "path": b"", "start": START + 10, **changes})


@pytest.mark.parametrize("port", [50000, DUMP.server_port])
@pytest.mark.parametrize("acked", [True, False])
def test_two_dumps_in_a_row_from_one_client(port, acked):
    first, other = replace(DUMP, acked=acked), second(server_port=port, acked=acked)
    observed = observe(first.traffic() + other.traffic())
    assert [observed.vmcore(dump) for dump in observed.dumps] == [VMCORE, OTHER_VMCORE]
    assert [dump.account.path for dump in observed.dumps] == [b"lab", b""]
    for dump in observed.dumps:
        assert dump.account.complete
        assert (dump.account.conflicting_bytes, dump.retransmitted) == (0, 0)


def test_a_dump_that_broke_off_and_another_to_the_same_port_after_a_reboot():
    broken = replace(DUMP, server_port=20023).traffic()[:100]
    whole = second(server_port=20023, path=b"lab\0")
    observed = observe(broken + later(whole.traffic(), REBOOT_TIME))
    assert [dump.account.complete for dump in observed.dumps] == [False, True]
    assert observed.vmcore(observed.dumps[1]) == OTHER_VMCORE
    assert [dump.retransmitted for dump in observed.dumps] == [0, 0]


def test_a_long_dump_that_broke_off_and_another_to_the_same_port_at_once():
    vmcore = Random(5).randbytes(2 * RESEND_WINDOW)
    broken = Dump(vmcore=vmcore, server_port=20023, finished=False)
    observed = observe(broken.traffic() + second(server_port=20023).traffic())
    assert [observed.vmcore(dump) for dump in observed.dumps] == [vmcore, OTHER_VMCORE]


@pytest.mark.parametrize("cuts", [(), range(200, 260)])
def test_a_straggler_of_the_old_dump_does_not_take_the_new_ones_herald(cuts):
    old, new = DUMP.traffic(), second(server_port=50000, path=b"new\0").traffic()
    observed = observe([*old, *new[:2], old[50], *new[2:]], cuts=cuts)
    assert [dump.account.path for dump in observed.dumps] == [b"lab", b"new"]
    assert [dump.account.complete for dump in observed.dumps] == [True, True]
    assert observed.dumps[0].retransmitted == 1


def test_a_finished_that_comes_again_after_the_next_herald_belongs_to_the_old_dump():
    old = replace(DUMP, server_port=20023, acked=False).traffic()
    new = second(server_port=20023, acked=False).traffic()
    observed = observe([*old, new[0], old[-1], *new[1:]])
    assert [observed.vmcore(dump) for dump in observed.dumps] == [VMCORE, OTHER_VMCORE]
    assert [dump.retransmitted for dump in observed.dumps] == [1, 0]


def many(count: int) -> list[Dump]:
    """Dumps of different clients to one server that ran at the same time."""
    return [
        Dump(
            vmcore=Random(number).randbytes(20_000 + 999 * number),
            client=f"10.99.1.{number}",
            server_port=50000 + number,
            path=b"%d\0" % number,
            payload=(1448, 1000, 8948)[number % 3],
        )
        for number in range(count)
    ]


def test_clients_at_once_to_one_server_interleaved():
    dumps = many(12)
    observed = observe(interleaved(Random(1), *(dump.traffic() for dump in dumps)))
    found = {dump.account.path: observed.vmcore(dump) for dump in observed.dumps}
    assert found == {dump.path[:-1]: dump.vmcore for dump in dumps}
    assert all(dump.account.complete for dump in observed.dumps)


def test_one_client_address_with_two_ports_is_two_clients():
    streams = [
        replace(DUMP, client_port=port, server_port=20023, vmcore=vmcore).traffic()
        for port, vmcore in ((20024, VMCORE), (5555, OTHER_VMCORE))
    ]
    observed = observe(interleaved(Random(1), *streams))
    found = {dump.peer.client_port: observed.vmcore(dump) for dump in observed.dumps}
    assert found == {20024: VMCORE, 5555: OTHER_VMCORE}


# Several captures


LOSSY = replace(DUMP, loss=0.1, window=46)


@pytest.mark.parametrize("swap", [False, True])
def test_captures_fill_each_others_holes_in_either_order(swap):
    traffic = DUMP.traffic()
    captures = [lose(traffic, 0.3, Random(seed)) for seed in (1, 2)]
    ranges = [set(missing_bytes(observe(capture).dump)) for capture in captures]
    observed = observe(*(reversed(captures) if swap else captures))
    assert all(ranges)
    assert set(missing_bytes(observed.dump)) == ranges[0] & ranges[1]
    assert observed.dump.retransmitted == 0
    assert observed.dump.account.conflicting_bytes == 0


@pytest.mark.parametrize("port", [41885, 20023])
@pytest.mark.parametrize("swap", [False, True])
def test_the_end_in_one_capture_and_the_beginning_in_another(port, swap):
    traffic = replace(DUMP, server_port=port).traffic()
    captures = [traffic[:120], traffic[120:]]
    assert_whole(observe(*(reversed(captures) if swap else captures)))


@pytest.mark.parametrize("swap", [False, True])
def test_a_long_dump_to_a_fixed_port_of_which_one_capture_has_only_the_end(swap):
    slow = replace(DUMP, server_port=20023, interval=1.0)
    captures = [slow.traffic(), slow.traffic()[150:]]
    assert 150 * slow.interval > REBOOT_TIME
    assert_whole(observe(*(reversed(captures) if swap else captures)))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("skew", [-50, 50])
def test_captures_of_one_dump_by_clocks_that_differ(swap, skew):
    captures = [DUMP.traffic()[:120], later(DUMP.traffic(), skew)]
    assert_whole(observe(*(reversed(captures) if swap else captures)))


@pytest.mark.parametrize("swap", [False, True])
def test_clocks_may_differ_by_any_time_if_the_headers_are_the_same(swap):
    captures = [lose(DUMP.traffic()[:-4], 0.1, Random(1)) + DUMP.traffic()[-4:]]
    captures.append(later(DUMP.traffic(), 3600))
    assert_whole(observe(*(reversed(captures) if swap else captures)))


@pytest.mark.parametrize("swap", [False, True])
def test_an_hour_apart_and_without_a_common_header_are_two_dumps_however_alike(swap):
    captures = [DUMP.traffic()[:120], later(DUMP.traffic(), 3600)]
    observed = observe(*(reversed(captures) if swap else captures))
    assert [dump.account.complete for dump in observed.dumps] == [False, True]


@pytest.mark.parametrize("port", [50000, 20023])
@pytest.mark.parametrize("swap", [False, True])
def test_two_dumps_in_a_row_each_seen_by_two_captures(port, swap):
    first = replace(DUMP, server_port=port if port == 20023 else 41885)
    both = first.traffic() + second(server_port=port).traffic()
    captures = [lose(both, 0.2, Random(seed)) for seed in (1, 3)]
    captures = [both[:2] + capture for capture in captures]
    observed = observe(*(reversed(captures) if swap else captures))
    assert len(observed.dumps) == 2
    assert [dump.account.conflicting_bytes for dump in observed.dumps] == [0, 0]
    for dump, vmcore in zip(observed.dumps, (VMCORE, OTHER_VMCORE), strict=True):
        missing = set(missing_bytes(dump))
        found = observed.vmcore(dump)
        assert all(found[at] == vmcore[at] for at in range(len(found)) if at not in missing)


@pytest.mark.parametrize("swap", [False, True])
def test_two_dumps_to_a_fixed_port_in_captures_of_their_own_in_either_order(swap):
    first = replace(DUMP, server_port=20023).traffic()
    other = later(second(server_port=20023).traffic(), 2 * REBOOT_TIME)
    observed = observe(*((other, first) if swap else (first, other)))
    assert {observed.vmcore(dump) for dump in observed.dumps} == {VMCORE, OTHER_VMCORE}
    assert all(dump.account.conflicting_bytes == 0 for dump in observed.dumps)


@pytest.mark.parametrize("swap", [False, True])
def test_a_capture_of_nothing_but_the_herald_tells_the_path(swap):
    traffic = DUMP.traffic()
    captures = [traffic[:1], traffic[2:]]
    observed = observe(*(reversed(captures) if swap else captures))
    assert_whole(observed)
    assert observed.dump.account.path == b"lab"
    assert observed.dump.account.heralded


def test_a_capture_that_ends_after_the_herald_adds_no_dump():
    observed = observe(DUMP.traffic(), DUMP.traffic()[:1])
    assert_whole(observed)
    assert observed.dump.retransmitted == 0


def test_a_lone_herald_in_other_words_announced_another_dump():
    other = DUMP.message(formats.HERALD, 1, 0, b"other\0")
    observed = observe(DUMP.traffic(), later([other], 5))
    assert [dump.account.path for dump in observed.dumps] == [b"lab", b"other"]


def test_of_bytes_that_two_captures_show_differently_those_of_the_earlier_time_stay():
    good, damaged = b"as it was", b"as it xxx"
    captures = [
        later([DUMP.message(formats.VMCORE, 7, 0, data)], number)
        for number, data in enumerate((good, damaged))
    ]
    for order in (captures, captures[::-1]):
        observed = observe(*order)
        assert observed.vmcore() == good
        assert observed.dump.account.conflicts.ranges() == [(6, 9)]
        assert observed.dump.account.verdict.kind is Kind.CONTRADICTED
    assert observe(*captures, prefer=Prefer.LAST).vmcore() == damaged
    assert observe(*captures[::-1], prefer=Prefer.FIRST).vmcore() == damaged


# Dumps that begin again

PORT = 20023
PAGES = Random(9).randbytes(40_000)


def of_lab(number: int, size: int = 60_000, **changes: object) -> Dump:
    """A dump of a machine that has the same kernel each time, and begins with the same pages."""
    vmcore = PAGES + Random(number).randbytes(size - len(PAGES))
    kdh = header(size, dumptime=1_600_000_000 + number)
    return Dump(**{"vmcore": vmcore, "kdh": kdh, "server_port": PORT, **changes})


def in_order_of_time(observed: Observed) -> list[tuple[bytes, bool]]:
    return [(observed.vmcore(dump), dump.account.complete) for dump in observed.dumps]


@pytest.mark.parametrize("heralded", [True, False])
@pytest.mark.parametrize("seconds", [3, 30, 100])
@pytest.mark.parametrize("cuts", [(), range(0, 400, 7)])
def test_a_dump_that_broke_off_early_and_one_that_began_again_on_its_port(heralded, seconds, cuts):
    broken = of_lab(1).traffic()[:80]
    whole = of_lab(2, heralded=heralded).traffic()
    whole = later(whole, seconds)
    observed = observe(broken + whole, cuts=cuts)
    first, other = in_order_of_time(observed)
    assert first == (of_lab(1).vmcore[: len(first[0])], False)
    assert other == (of_lab(2).vmcore, True)
    assert observed.dumps[0].account.conflicting_bytes == 0
    assert observed.dumps[0].retransmitted == 0


def test_a_second_dump_whose_herald_was_not_captured():
    second_one = later(of_lab(2).traffic()[2:], 100)
    observed = observe(of_lab(1).traffic() + second_one)
    assert in_order_of_time(observed) == [(of_lab(1).vmcore, True), (of_lab(2).vmcore, True)]
    assert [dump.account.heralded for dump in observed.dumps] == [True, False]


@pytest.mark.parametrize("cuts", [(), (3,), (50, 51)])
def test_the_first_chunk_sent_again_is_the_same_dump(cuts):
    herald, first, *rest = DUMP.chunks()
    seen = [*herald, *first, *first, *first[3:9], *(one for chunk in rest for one in chunk)]
    observed = observe(seen, cuts=cuts)
    assert_whole(observed)
    assert observed.dump.retransmitted == len(first) + 6


def test_damaged_copies_of_the_first_chunk_are_conflicts_of_one_dump():
    herald, first, *rest = DUMP.chunks()
    damaged = [seen._replace(payload=seen.payload[:-2] + b"xx") for seen in first]
    observed = observe([*herald, *first, *damaged, *(one for chunk in rest for one in chunk)])
    assert observed.vmcore() == VMCORE
    assert observed.dump.account.conflicting_bytes > len(first)
    assert observed.dump.account.verdict.kind is Kind.CONTRADICTED


def test_late_copies_after_finished_belong_to_the_dump():
    traffic = DUMP.traffic()
    copies = [traffic[2], traffic[4], traffic[60], traffic[-4], traffic[-2]]
    observed = observe(traffic + copies)
    assert_whole(observed)
    assert observed.dump.retransmitted == len(copies)


@pytest.mark.parametrize("swap", [False, True])
def test_two_whole_dumps_a_year_apart_on_one_port(swap):
    captures = [of_lab(1).traffic(), later(of_lab(2).traffic(), 365 * 86400)]
    observed = observe(*(reversed(captures) if swap else captures))
    assert in_order_of_time(observed) == [(of_lab(1).vmcore, True), (of_lab(2).vmcore, True)]


def test_many_captures_of_one_machine_in_any_order():
    captures = []
    for number in range(100):
        traffic = later(of_lab(number, size=50_000).traffic(), 1000 * number)
        cut = Random(number).randrange(2, len(traffic))
        captures += [traffic[:cut], traffic[cut:]]
    observed = observe(*captures)
    wanted = [(of_lab(number, size=50_000).vmcore, True) for number in range(100)]
    assert in_order_of_time(observed) == wanted
    Random(1).shuffle(captures)
    assert in_order_of_time(observe(*captures)) == wanted


def test_a_missing_end_is_not_hidden_by_a_finished():
    traffic = [*replace(DUMP, kdh=b"", acked=False).traffic()]
    observed = observe(traffic[:100] + traffic[-1:])
    assert observed.dump.account.finished
    assert observed.dump.account.verdict.kind is Kind.UNKNOWN


# Floods


def forged_heralds(count: int) -> list[Datagram]:
    return [
        replace(DUMP, client=str(ip_address(0x0A000000 + number))).message(
            formats.HERALD, number % 7, 0, b"x" * 900
        )
        for number in range(count)
    ]


def test_ten_thousand_heralds_from_forged_addresses_stay_bounded_in_memory():
    flood = [batch(forged_heralds(10_000)[at : at + 2500]) for at in range(0, 10_000, 2500)]
    observed = Observed()
    tracemalloc.start()
    try:
        for part in flood:
            observed.observer.observe(part)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used < 2000 * MAX_HERALDS
    observed.observer.observe(batch(DUMP.traffic()))
    assert observed.vmcore() == VMCORE
    observed.observer.finish()
    assert len(observed.dumps) <= MAX_HERALDS


def test_a_flood_of_heralds_does_not_harm_a_running_dump():
    flood = forged_heralds(3 * MAX_HERALDS)
    traffic = replace(DUMP, client_port=5555).traffic()
    observed = Observed()
    for part in (traffic[:100], flood, traffic[100:]):
        observed.observer.observe(batch(part))
    (dump,) = (dump for dump in observed.dumps if dump.account.vmcore.total)
    assert dump.account.complete


def test_dumps_are_bounded_in_number_and_the_rest_is_counted():
    traffic = [
        replace(DUMP, server_port=1 + number).message(formats.VMCORE, 1, 0, b"x")
        for number in range(MAX_DUMPS + 100)
    ]
    observed = observe(traffic)
    assert len(observed.dumps) == MAX_DUMPS
    assert observed.observer.refused == 100


@pytest.mark.parametrize("swap", [False, True])
def test_a_repeated_herald_counts_whatever_the_order_of_the_captures(swap):
    traffic = DUMP.traffic()
    seen_twice, seen_once = [*traffic[:4], traffic[0]], traffic
    captures = [seen_once, seen_twice] if swap else [seen_twice, seen_once]
    assert observe(*captures).dump.retransmitted == 1


@pytest.mark.parametrize("acked", [True, False])
def test_messages_to_the_herald_port_that_are_no_heralds_begin_no_dump(acked):
    traffic = replace(DUMP, acked=acked).traffic()
    stray = replace(DUMP, server_port=formats.HERALD_PORT)
    traffic.insert(20, stray.message(formats.VMCORE, 7, 0, b"stray"))
    traffic.insert(30, stray.message(formats.FINISHED, 8))
    observed = observe(traffic)
    assert_whole(observed)
    assert observed.observer.malformed == 2


def test_a_server_may_take_the_whole_dump_on_the_herald_port():
    traffic = replace(DUMP, server_port=formats.HERALD_PORT).traffic()
    assert_whole(observe(traffic))
    assert_whole(observe(traffic[1:]))


# A second panic whose first bytes are those of the first one


def panic_after(gap: float, *, messages: int = 25, path: bytes = b"other\0") -> list[Datagram]:
    """What begins so many seconds after the end of DUMP, with the same bytes, and breaks off."""
    traffic = replace(DUMP, path=path, start=DUMP.traffic()[-1].time + gap).traffic()
    return traffic[: 2 * messages]


@pytest.mark.parametrize("gap", [1, 3, 30, 70, 500, 700])
@pytest.mark.parametrize("messages", [1, 2, 25])
@pytest.mark.parametrize("cut", [None, -30, 0, 20])
def test_another_herald_after_the_end_announces_another_dump(gap, messages, cut):
    first, after = DUMP.traffic(), panic_after(gap, messages=messages)
    at = len(first) + min(cut or 0, len(after))
    captures = [first + after] if cut is None else [(first + after)[:at], (first + after)[at:]]
    one, other = observe(*captures).dumps
    assert (one.account.path, one.account.complete) == (b"lab", True)
    assert (other.account.path, other.account.complete) == (b"other", False)
    assert one.messages == len(first) // 2


@pytest.mark.parametrize(("gap", "dumps"), [(1, 1), (3, 2)])
def test_the_same_herald_after_the_end_is_a_late_copy_if_it_comes_at_once(gap, dumps):
    observed = observe(DUMP.traffic() + panic_after(gap, path=b"lab\0"))
    assert len(observed.dumps) == dumps
    assert observed.dumps[0].account.complete


# Where a capture is cut


@pytest.mark.parametrize("cut", range(1, 12))
@pytest.mark.parametrize("turned", [False, True])
def test_what_was_not_seen_before_finished_does_not_depend_on_the_cut(cut, turned):
    """One message is sent again right before FINISHED."""
    traffic = replace(DUMP, kdh=b"").traffic()
    traffic = [*traffic[:-2], *traffic[-12:-10], *traffic[-2:]]
    traffic = [one._replace(time=START + at * 1e-4) for at, one in enumerate(traffic)]
    parts = traffic[:-cut], traffic[-cut:]
    account = observe(*(reversed(parts) if turned else parts)).dump.account
    assert account.unseen == 0
    assert account.complete


@pytest.mark.parametrize("cut", range(1, 12))
def test_what_no_part_shows_before_finished_is_counted(cut):
    traffic = replace(DUMP, kdh=b"", acked=False).traffic()
    shown = [*traffic[:-4], traffic[-1]]
    assert observe(shown).dump.account.unseen == 3
    account = observe(shown[:-cut], shown[-cut:]).dump.account
    assert (account.unseen, account.complete) == (3, False)


# A silence that no client keeps


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize(("silence", "doubted"), [(1, False), (59, False), (62, True), (590, True)])
def test_numbers_that_go_on_after_a_long_silence_are_doubted(files, silence, doubted):
    traffic = replace(DUMP, acked=False).traffic()
    rest = later(traffic[80:], silence)
    captures = [traffic[:80] + rest] if files == 1 else [traffic[:80], rest]
    account = observe(*captures).dump.account
    said = f"{silence} s of silence within it, longer than a client waits"
    assert (account.doubt == said) is doubted
    assert account.complete is not doubted


def test_a_part_that_is_not_given_is_missing_and_no_silence():
    traffic = replace(DUMP, acked=False, vmcore=VMCORE * 3).traffic()
    account = observe(traffic[:30], later(traffic[130:], 90)).dump.account
    assert account.missing
    assert not account.doubt
