# SPDX-License-Identifier: GPL-2.0-or-later
"""Where one dump of a client ends and another begins: what FINISHED, a key, a resend and a clock
tell of that, in one capture and across several."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from helpers.observing import Observed, observe
from helpers.traffic import START, Datagram, Dump, header, key_blob, lose, seqno_of
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump import formats
from scapy_netdump.core.identity import LONG_SILENCE, REBOOT_TIME
from scapy_netdump.core.seqnos import ahead, cannot_be_finished, unseen_before
from scapy_netdump.core.verdict import Kind

INTERVAL = 1e-4
PORT = 20023
SIZE = 30 * 1448
VMCORE = Random(1).randbytes(SIZE)
DUMP = Dump(vmcore=VMCORE, kdh=header(SIZE), server_port=PORT, acked=False, interval=INTERVAL)


def at(traffic: list[Datagram], time: float) -> list[Datagram]:
    """The same from another time on."""
    return [seen._replace(time=time + n * INTERVAL) for n, seen in enumerate(traffic)]


def in_any_order(*captures: list[Datagram]) -> Observed:
    """What captures show, which is the same in another order."""
    observed, back = observe(*captures), observe(*reversed(captures))
    assert told(observed) == told(back)
    return observed


def told(observed: Observed) -> list[object]:
    return [(str(one.account.verdict), observed.vmcore(one)) for one in observed.dumps]


def is_of(observed: Observed, vmcore: bytes) -> list[bool]:
    """Of each dump, whether all that is here of it is of a vmcore."""
    return [
        all(observed.vmcore(one)[a:b] == vmcore[a:b] for a, b in one.account.vmcore)
        for one in observed.dumps
    ]


# The number of FINISHED


@pytest.mark.parametrize("herald", [None, 0, 1])
@given(latest=st.integers(0, 2**32 - 1), far=st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_what_a_finished_tells_by_its_number(herald, latest, far):
    number = (latest + far) % 2**32
    assert ahead(number, latest) == far
    assert unseen_before([number], latest) == (far - 1 if far > 0 else None)
    impossible = far <= 0 and (number != 0 or herald == 1)
    assert cannot_be_finished([number], latest, herald) is impossible
    near = (latest + 5) % 2**32
    assert unseen_before([number, near], latest) == (min(far, 5) if far > 0 else 5) - 1
    assert not cannot_be_finished([number, near], latest, herald)
    assert unseen_before([number], None) is None


@pytest.mark.parametrize("kept", [1, 10, 30])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("gap", [INTERVAL, 30.0])
def test_a_capture_of_nothing_but_finished_completes_no_dump(kept, before, gap):
    traffic = DUMP.traffic()
    broken, end = traffic[before : kept + 1], at(traffic[-1:], START + 1 + gap)
    account = in_any_order(broken, end).dump.account
    assert account.unseen == 31 - kept
    assert account.verdict.kind is Kind.UNKNOWN
    assert str(observe(broken + end).dump.account.verdict) == str(account.verdict)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("number", [0, 1, 5, 12, 13, 2**32 - 1])
def test_a_finished_that_cannot_be_of_the_dump_contradicts_it(number, apart):
    broken = DUMP.traffic()[:13]
    end = at([DUMP.message(formats.FINISHED, number)], START + 1)
    verdict = in_any_order(broken, end) if apart else observe(broken + end)
    said = str(verdict.dump.account.verdict)
    assert said.startswith(f"Dump contradicted: its FINISHED has number {number}, but 13 came")


def test_a_number_that_cannot_be_finisheds_is_outweighed_by_one_that_can():
    traffic = DUMP.traffic()
    forged = DUMP.message(formats.FINISHED, 7)._replace(time=traffic[20].time)
    observed = observe([*traffic[:20], forged, *traffic[20:]])
    assert observed.dump.account.complete
    assert observed.vmcore() == VMCORE


@pytest.mark.parametrize("number", [0, 5, 15, 20])
@pytest.mark.parametrize("seconds", [700, 1e6])
def test_a_finished_long_after_a_dump_is_not_its(number, seconds):
    end = at([DUMP.message(formats.FINISHED, number)], START + seconds)
    for observed in (observe(DUMP.traffic()[:13] + end), in_any_order(DUMP.traffic()[:13], end)):
        kinds = [one.account.verdict.kind for one in observed.dumps]
        assert kinds == [Kind.UNKNOWN, Kind.INCOMPLETE]


def test_where_herald_and_finished_are_numbered_0_nothing_is_contradicted_nor_known():
    odd = replace(DUMP, first_seqno=0, finished_seqno=0)
    for heralded in (odd, replace(odd, heralded=False)):
        assert observe(heralded.traffic()).dump.account.complete
        account = observe(replace(heralded, kdh=b"").traffic()).dump.account
        assert account.verdict.kind is Kind.UNKNOWN
        assert "FINISHED has no number that tells its end" in account.verdict.reason


@pytest.mark.parametrize("gap", [3, 20, 75, 300, 590, 610])
@pytest.mark.parametrize("kdh", [False, True])
def test_what_is_numbered_behind_a_finished_is_another_dump(gap, kdh):
    """Of the first one the header was not captured, of the second one the beginning was not."""
    first = replace(DUMP, kdh=b"").traffic()
    vmcore = Random(2).randbytes(200 * 1448)
    second = replace(DUMP, vmcore=vmcore, kdh=header(len(vmcore))).traffic()
    rest = at(second[100:] if kdh else second[100:180], START + gap)
    for observed in (observe(first + rest), in_any_order(first, rest)):
        assert len(observed.dumps) == 2
        assert is_of(observed, VMCORE) == [True, False]
        assert is_of(observed, vmcore) == [False, True]
        assert observed.dumps[0].account.complete


# Sent again


@settings(max_examples=40, deadline=None)
@given(
    begins=st.integers(1, 1400),
    last=st.integers(1, 20),
    lost=st.integers(1, 2**32),
    pause=st.sampled_from([0.001, 1.0, LONG_SILENCE]),
)
def test_a_capture_that_begins_within_a_dump_shows_one_however_much_is_sent_again(
    begins, last, lost, pause
):
    """It begins with the last messages of a chunk, of which others are sent again then."""
    vmcore = Random(3).randbytes(2 << 20)
    dump = replace(DUMP, vmcore=vmcore, kdh=header(len(vmcore)))
    traffic = dump.traffic()
    end = min(begins + 46, len(traffic) - 2)
    chunk = traffic[begins:end]
    again = [seen for seen in chunk[:-last] if Random(lost + seqno_of(seen)).random() < 0.5]
    tail = at(chunk[-last:], START + 1)
    rest = at(again + traffic[end:], tail[-1].time + pause)
    head = at([seen for seen in traffic[: end - len(chunk[-last:])] if seen not in again], START)
    assert len(observe(tail + rest).dumps) == 1
    whole = in_any_order(head, tail + rest)
    assert whole.dump.account.complete
    assert whole.vmcore() == vmcore


# Keys


KEYS = [key_blob(Random(number)) for number in range(2)]


@pytest.mark.parametrize("first_key", [b"", KEYS[0]])
@pytest.mark.parametrize("broken", [20, None])
@pytest.mark.parametrize("lost", [1, 2, 3])
@pytest.mark.parametrize("gap", [5, 26, 45])
def test_an_encrypted_dump_whose_herald_was_not_captured(first_key, broken, lost, gap):
    """Nor were some pieces of its key; what its first piece has not is zeros."""
    other = Random(4).randbytes(SIZE)
    first = replace(DUMP, key=first_key, kdh=header(SIZE, dumpkeysize=len(first_key)))
    kdh = header(SIZE, dumpkeysize=len(KEYS[1]), dumptime=9)
    second = replace(DUMP, vmcore=other, key=KEYS[1], kdh=kdh)
    sent = first.traffic()[:broken]
    rest = at(second.traffic()[lost:], START + gap)
    for observed in (observe(sent + rest), in_any_order(sent, rest)):
        assert len(observed.dumps) == 2
        assert is_of(observed, VMCORE) == [True, False]
        assert is_of(observed, other) == [False, True]
        one, another = observed.dumps
        assert bytes(one.account.key) == first_key
        assert another.account.key.extents.covers(1448 * (lost - 1), 4096)
        assert another.account.complete == (lost == 1)


@pytest.mark.parametrize("pause", [INTERVAL, 1.0, 5.0])
def test_late_copies_of_a_key_begin_no_dump(pause):
    traffic = replace(DUMP, key=KEYS[0], kdh=header(SIZE, dumpkeysize=4096)).traffic()
    copies = at(traffic[1:3], traffic[20].time + pause)
    rest = at(traffic[21:], copies[-1].time + INTERVAL)
    observed = observe(traffic[:21] + copies + rest)
    assert observed.dump.account.complete
    assert observed.dump.retransmitted == 2


@pytest.mark.parametrize("begins", [0, 10])
@pytest.mark.parametrize("cut", [None, 31, 32, 33, 34])
@pytest.mark.parametrize("pause", [INTERVAL, 1.0, 5.0])
def test_a_key_that_is_sent_last(begins, cut, pause):
    """As FreeBSD 12 and 13 do."""
    kdh = header(SIZE, dumpkeysize=4096)
    *sent, _ = replace(DUMP, kdh=kdh).traffic()
    pieces = [
        DUMP.message(formats.EKCD_KEY, 33 + n, 1448 * n, KEYS[0][1448 * n : 1448 * (n + 1)])
        for n in range(3)
    ]
    end = at([*pieces, DUMP.message(formats.FINISHED, 36)], sent[-1].time + pause)
    traffic = [*sent[begins:], *end]
    place = len(traffic) if cut is None else cut - begins
    observed = in_any_order(traffic[:place], traffic[place:])
    assert bytes(observed.dump.account.key) == KEYS[0]
    assert is_of(observed, VMCORE) == [True]
    assert observed.dump.account.complete == (begins == 0)


@pytest.mark.parametrize("pause", [5.0, 30.0])
def test_one_message_with_other_bytes_is_not_forgiven_where_no_other_agrees(pause):
    """What else begins again lies where nothing was seen, or was not seen itself."""
    other = Random(4).randbytes(SIZE)
    sent = DUMP.traffic()[8:12]
    rest = replace(DUMP, vmcore=other, kdh=header(SIZE, dumptime=9)).traffic()
    observed = observe(sent + at([*rest[1:9], *rest[12:]], sent[-1].time + pause))
    assert is_of(observed, VMCORE) == [True, False]
    assert is_of(observed, other) == [False, True]


# Clocks


LONG = Random(5).randbytes(300_000)
TAPPED = Dump(vmcore=LONG, kdh=header(len(LONG)), server_port=PORT, interval=INTERVAL)


@pytest.mark.parametrize("skew", [0, 30, -70, 70, 3600, 1e7])
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_two_taps_with_clocks_apart_show_one_dump_if_nearly_all_of_it_is_the_same(skew, parts):
    """The header is in one of them only. Both are cut into files."""
    traffic = TAPPED.traffic()
    taps = [lose(traffic, 0.05, Random(number)) for number in range(2)]
    taps[1] = [seen._replace(time=seen.time + skew) for seen in taps[1] if seen not in traffic[-4:]]
    captures = [
        tap[start:end]
        for tap in taps
        for start, end in pairwise([*range(0, len(tap), -(-len(tap) // parts)), len(tap)])
    ]
    observed = in_any_order(*captures)
    assert len(observed.dumps) == 1
    assert is_of(observed, LONG) == [True]
    assert not observed.dump.account.doubt


@pytest.mark.parametrize("kdh", [True, False])
@pytest.mark.parametrize("skew", [15, 20, 50, 90])
def test_the_tail_of_a_second_tap_goes_to_its_dump_and_not_to_the_latest(skew, kdh):
    """By the clock of the second tap it comes after the next dump has begun."""
    first = replace(TAPPED, kdh=TAPPED.kdh if kdh else b"").traffic()
    other = Random(4).randbytes(4000)
    second = replace(TAPPED, vmcore=other, kdh=header(4000, dumptime=9)).traffic()
    second = at(second, first[-1].time + 4)
    tail = [seen._replace(time=seen.time + skew) for seen in [*first[350:-2], *second[:6]]]
    observed = in_any_order(first[:-4], first[-4:] + second, tail)
    ours, others = is_of(observed, LONG), is_of(observed, other)
    assert [mine != its for mine, its in zip(ours, others, strict=True)] == [True] * len(ours)
    assert ours.count(True) == 1
    assert others.count(True) == (1 if skew < REBOOT_TIME else 2)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_part_in_common_at_other_times_is_the_text_of_one_kernel(share):
    first, second = Random(6).randbytes(200_000), bytearray(Random(7).randbytes(200_000))
    second[20_000 : 20_000 + int(share * len(first))] = first[20_000:][: int(share * len(first))]
    early = replace(TAPPED, vmcore=first, kdh=b"").traffic()[28:]
    late = replace(TAPPED, vmcore=bytes(second), kdh=header(len(second))).traffic()[28:]
    assert len(in_any_order(early, at(late, START + 3600)).dumps) == 2


@pytest.mark.parametrize("step", [-1, -3, -30, -59])
def test_a_clock_that_is_set_back_between_two_files(step):
    traffic = TAPPED.traffic()
    for half in (50, len(traffic) // 2, len(traffic) - 6):
        rest = [seen._replace(time=seen.time + step) for seen in traffic[half:]]
        observed = in_any_order(traffic[:half], rest)
        assert observed.dump.account.complete
        assert observed.vmcore() == LONG


@pytest.mark.parametrize("step", [700, 7200, 1e7])
def test_a_clock_that_is_set_forward_within_a_capture_is_doubted(step):
    traffic = replace(TAPPED, acked=False).traffic()
    for half in (50, len(traffic) - 2, len(traffic) - 1):
        rest = [seen._replace(time=seen.time + step) for seen in traffic[half:]]
        observed = observe(traffic[:half] + rest)
        assert observed.vmcore() == LONG
        assert observed.dump.account.verdict.kind is Kind.CONTRADICTED
        assert "s of silence within it" in observed.dump.account.doubt


@pytest.mark.parametrize("half", [50, 100])
def test_a_dump_that_begins_long_after_where_another_one_ends_is_another(half):
    """Not the next message, or not in the same capture."""
    traffic = replace(TAPPED, acked=False).traffic()
    assert len(observe(traffic[:half] + at(traffic[half + 1 :], START + 700)).dumps) == 2
    assert len(in_any_order(traffic[:half], at(traffic[half:], START + 700)).dumps) == 2
    assert REBOOT_TIME < 70
    assert len(in_any_order(at(traffic[:half], START + 70), at(traffic[half:], START)).dumps) == 2


@pytest.mark.parametrize("kept", [3, 8, 20])
@pytest.mark.parametrize("gap", [8.0, 59.0, 61.0])
def test_a_machine_that_breaks_off_again_and_again_has_a_dump_each_time(kept, gap):
    """The HERALD of the third dump is no copy of the second's, which is still held back."""
    second, third = (
        replace(
            DUMP, vmcore=Random(n).randbytes(1448) + VMCORE[1448 : SIZE // 2] + bytes(SIZE // 2)
        )
        for n in (2, 3)
    )
    traffic = DUMP.traffic()[:25]
    for dump, messages in ((second, kept), (third, None)):
        traffic += at(dump.traffic()[:messages], traffic[-1].time + gap)
    observed = in_any_order(traffic)
    assert [one.account.complete for one in observed.dumps] == [False, False, True]
    assert observed.vmcore(observed.dumps[2]) == third.vmcore
