# SPDX-License-Identifier: GPL-2.0-or-later
"""Observer against a model, on random traffic with all that can happen to it."""

from __future__ import annotations

import struct
from random import Random

from helpers.observing import Observed, facts, observe
from helpers.traffic import (
    START,
    Datagram,
    Dump,
    coalesced,
    header,
    interleaved,
    lose,
    mirrored,
    shuffled,
    snapped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump import formats
from scapy_netdump.core.observing.observed_dump import ObservedDump


def everything(observed: Observed) -> list[object]:
    observer = observed.observer
    dumps = [(facts(dump), observed.vmcore(dump)) for dump in observed.dumps]
    return [dumps, observer.malformed, observer.snapped, observer.refused]


def missing_bytes(dump: ObservedDump) -> list[int]:
    return [at for start, end in dump.account.missing for at in range(start, end)]


@st.composite
def messy_traffic(draw, apart: bool = True) -> tuple[list[Dump], list[Datagram]]:
    """Small dumps, with all that can happen to them on the way. ``apart``: no two of them
    are of one client to one server."""
    random = Random(draw(st.integers(0, 2**32)))
    dumps, streams = [], []
    for number in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 4000))
        vmcore = random.randbytes(size)
        dump = Dump(
            vmcore=vmcore,
            client=f"10.99.1.{number % 2}",
            server=f"10.99.0.{number % (3 if apart else 2)}",
            server_port=50000 + number if apart else draw(st.sampled_from([20023, 50000, 50001])),
            path=b"%d\0" % number,
            payload=draw(st.sampled_from([100, 1448, 37])),
            chunk=draw(st.sampled_from([512, 1 << 16])),
            window=draw(st.sampled_from([1, 5])),
            loss=draw(st.sampled_from([0.0, 0.2])),
            at=draw(st.sampled_from(["client", "server"])),
            kdh=draw(st.sampled_from([b"", header(size)])),
            kdh_first=draw(st.booleans()),
            seed=number,
            start=START + number,
        )
        traffic = dump.traffic()
        head, rest = traffic[:1], traffic[1:]
        rest = lose(rest, draw(st.sampled_from([0, 0.1])), random)
        rest = shuffled(rest, draw(st.sampled_from([0, 3])), random)
        traffic = head + rest
        if draw(st.booleans()):
            traffic = mirrored(traffic)
        if draw(st.booleans()):
            traffic = coalesced(traffic)
        if draw(st.booleans()):
            traffic = snapped(traffic, draw(st.sampled_from([1472, 90, 600])))
        dumps.append(dump)
        streams.append(traffic)
    return dumps, interleaved(random, *streams)


def expected(dump: Dump, traffic: list[Datagram]) -> tuple[set[int], int, int]:
    """The bytes of a dump's vmcore that were captured, how many were sent, and how many
    messages brought nothing new."""
    here: dict[int, set[int]] = {}
    sent, repeats = 0, 0
    marks: set[int] = set()
    for seen in traffic:
        if (seen.source, seen.sport, seen.destination) != (dump.client, 20024, dump.server):
            continue
        if seen.dport not in (20023, dump.server_port):
            continue
        payload, at = seen.payload, 0
        while at < len(payload):
            kind, _, offset, size, _ = struct.unpack_from("!IIQII", payload, at)
            at += 24
            kept = max(0, min(len(seen.kept) - at, size))
            if len(seen.kept) < at:
                break
            if kind in (formats.HERALD, formats.FINISHED):
                repeats += kind in marks
                marks.add(kind)
            elif kept:
                got = set(range(offset, offset + kept))
                repeats += got <= here.setdefault(kind, set())
                here[kind] |= got
            if kind == formats.VMCORE:
                sent = max(sent, offset + size)
            at += size
    return here.get(formats.VMCORE, set()), sent, repeats


@settings(max_examples=150, deadline=None)
@given(messy_traffic(), st.sets(st.integers(0, 300), max_size=6))
def test_whatever_happens_on_the_way_what_is_here_is_exact(messy, cuts):
    dumps, traffic = messy
    observed = observe(traffic, cuts=cuts)
    assert everything(observed) == everything(observe(traffic))
    by_port = {dump.server_port: dump for dump in observed.dumps if dump.server_port != 20023}
    for dump in dumps:
        captured, sent, repeats = expected(dump, traffic)
        if dump.server_port not in by_port:
            assert not captured
            continue
        found = by_port[dump.server_port]
        account = found.account
        end = len(dump.vmcore) if account.header is not None else sent
        assert account.bytes_expected == end
        assert set(missing_bytes(found)) == set(range(end)) - captured
        assert account.bytes_received == len(captured)
        assert found.account.conflicting_bytes == 0
        data = observed.vmcore(found)
        assert all(data[at] == dump.vmcore[at] for at in captured)
        if account.header is not None:
            assert account.complete == (bool(captured) and captured == set(range(end)))
        assert not account.complete or data == dump.vmcore
        if account.heralded:
            assert found.retransmitted == repeats


def damaged(traffic: list[Datagram], random: Random) -> list[Datagram]:
    """Some messages with another last byte, and some of all kinds once more, anywhere."""
    result = [
        seen._replace(payload=seen.payload[:-1] + random.randbytes(1))
        if len(seen.payload) > 24 and random.random() < 0.1
        else seen
        for seen in traffic
    ]
    for seen in random.choices(traffic, k=random.randrange(8)):
        result.insert(random.randrange(len(result)), seen)
    return result


@settings(max_examples=150, deadline=None)
@given(messy_traffic(apart=False), st.integers(0, 2**32), st.sets(st.integers(0, 300), max_size=6))
def test_batches_do_not_matter_whatever_is_damaged_or_comes_again(messy, seed, cuts):
    _, traffic = messy
    traffic = damaged(traffic, Random(seed))
    assert everything(observe(traffic, cuts=cuts)) == everything(observe(traffic))


@settings(max_examples=60, deadline=None)
@given(messy_traffic(), st.integers(0, 2**32))
def test_captures_in_either_order_come_to_the_same_bytes(messy, seed):
    _, traffic = messy
    captures = [lose(traffic, 0.3, Random(seed + number)) for number in range(2)]
    forth, back = observe(*captures), observe(*reversed(captures))

    def by_port(observed: Observed) -> dict[int, object]:
        return {
            dump.server_port: (dump.account.missing, dump.retransmitted, observed.vmcore(dump))
            for dump in observed.dumps
            if dump.account.vmcore.total
        }

    assert by_port(forth) == by_port(back)
