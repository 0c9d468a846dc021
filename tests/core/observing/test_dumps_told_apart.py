# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dump each byte goes to, whatever happens: several clients that break off and begin again,
on ports of their own or the same, seen by captures that lose, repeat and reorder, that are cut
into files, and given in any order.

Invariants: what is called complete is one of the dumps that were sent, byte for byte; a byte that
is reported was sent by that client for that dump, unless the verdict is contradicted; no dump's
byte is in two; and the order of the captures changes nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from helpers.observing import Observed, facts, observe
from helpers.traffic import START, Datagram, Dump, header
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump.core.observing.observed_dump import ObservedDump
from scapy_netdump.core.verdict import Kind

Kept = list[list[Datagram]]


INTERVAL = 0.001
FORGED = b"\xf5"


@dataclass(frozen=True, slots=True)
class Story:
    """What a few clients send: dumps, one after the other, each whole or broken off. ``alike``:
    how many bytes all machines begin with; ``port``: that of the server, None for fresh ones."""

    seed: int
    clients: int
    dumps: int
    alike: int
    port: int | None
    loss: float

    def told(self) -> tuple[list[Dump], list[Datagram]]:
        """The dumps, and what was sent."""
        random = Random(self.seed)
        first_pages = random.randbytes(self.alike)
        sent, streams = [], []
        for client in range(self.clients):
            time = START + random.random()
            for number in range(self.dumps):
                dump = self.dump(random, first_pages, client, number, time)
                traffic = dump.traffic()
                if random.random() < 0.5:  # the machine dies
                    traffic = traffic[: random.randrange(4, len(traffic))]
                sent.append(dump)
                streams.append(traffic)
                time = traffic[-1].time + random.choice([5.0, 90.0, 4000.0])
        everything = (seen for stream in streams for seen in stream)
        return sent, sorted(everything, key=lambda seen: seen.time)

    def dump(self, random: Random, pages: bytes, client: int, number: int, time: float) -> Dump:
        vmcore = pages + random.randbytes(random.randint(1000, 12_000))
        return Dump(
            vmcore=vmcore,
            client=f"10.99.1.{client}",
            server_port=self.port or 40_000 + 10 * client + number,
            kdh=header(len(vmcore), panicstring=f"{client}-{number}".encode()),
            heralded=not number or random.random() < 0.5,
            payload=random.choice([200, 500]),
            chunk=random.choice([1000, 4096]),
            window=random.choice([1, 8]),
            loss=self.loss,
            start=time,
            interval=INTERVAL,
            seed=random.randrange(1 << 30),
        )


def spoilt(traffic: list[Datagram], random: Random, rate: float) -> list[Datagram]:
    """What a capture shows of traffic: some lost, some twice, some late, some damaged, some
    forged."""
    seen = []
    for datagram in traffic:
        chance = random.random()
        is_data = len(datagram.payload) > 24
        if chance < rate and (is_data or datagram.dport == 20024):
            continue
        seen.append(datagram)
        if chance > 1 - rate:
            seen.append(datagram)
        if is_data and random.random() < rate / 4:
            at = random.randrange(24, len(datagram.payload))
            data = bytearray(datagram.payload)
            data[at] ^= 1 + random.randrange(255)
            seen.append(datagram._replace(payload=bytes(data)))
        if is_data and random.random() < rate / 8:
            data = datagram.payload[:24] + FORGED * (len(datagram.payload) - 24)
            seen.append(datagram._replace(payload=data))
    return sorted(seen, key=lambda one: one.time + random.random() * 3 * INTERVAL)


def cut_up(traffic: list[Datagram], random: Random, parts: int) -> Kept:
    """A capture in files one behind the other."""
    cuts = sorted(random.randrange(len(traffic) + 1) for _ in range(parts - 1))
    edges = [0, *cuts, len(traffic)]
    return [traffic[begin:end] for begin, end in pairwise(edges)]


def told(observed: Observed) -> list[object]:
    return [(facts(dump), observed.vmcore(dump)) for dump in observed.dumps]


def check(observed: Observed, sent: list[Dump]) -> None:
    for dump in observed.dumps:
        data = observed.vmcore(dump)
        mine = [one for one in sent if one.client == address(dump)]
        if dump.account.complete:
            assert data in [one.vmcore for one in mine], str(dump.account.verdict)
        all_forged = not data.strip(FORGED + b"\0")
        if dump.account.verdict.kind is not Kind.CONTRADICTED and not all_forged:
            assert any(holds(dump, data, one) for one in mine), str(dump.account.verdict)


def address(dump: ObservedDump) -> str:
    return ".".join(map(str, dump.peer.client))


def holds(dump: ObservedDump, data: bytes, source: Dump) -> bool:
    """Whether all that is here of a dump is of one that was sent."""
    return all(
        data[start:end] == source.vmcore[start:end] for start, end in dump.account.vmcore
    ) and (dump.account.header is None or dump.account.kdh == source.kdh)


def examine(story: Story, seed: int, rate: float, parts: int) -> None:
    sent, traffic = story.told()
    random = Random(seed)
    skew = random.choice([-0.9, 0.0017, 0.3])
    captures = [spoilt(part, random, rate) for part in cut_up(traffic, random, parts)]
    first = observe(*captures)
    check(first, sent)
    random.shuffle(captures)
    assert told(observe(*captures)) == told(first)
    taps = [spoilt(traffic, random, rate) for _ in range(2)]
    taps[1] = [seen._replace(time=seen.time + skew) for seen in taps[1]]
    both = observe(*taps)
    check(both, sent)
    assert told(observe(*reversed(taps))) == told(both)


CASE = (
    st.builds(
        Story,
        seed=st.integers(0, 2**32),
        clients=st.integers(1, 3),
        dumps=st.integers(1, 3),
        alike=st.sampled_from([0, 600, 3000]),
        port=st.sampled_from([None, 20023, 40000]),
        loss=st.sampled_from([0.0, 0.1]),
    ),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.02, 0.1]),
    st.integers(1, 5),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(*CASE)
def test_no_dump_has_a_byte_of_another_one(story, seed, rate, parts):
    examine(story, seed, rate, parts)


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("EXAMPLES", "3000")), deadline=None)
@given(*CASE)
def test_no_dump_has_a_byte_of_another_one_for_long(story, seed, rate, parts):
    examine(story, seed, rate, parts)
