# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server says of dumps, with clients that break off and begin again: it is true.

`pytest -m slow` tries many more.
"""

from __future__ import annotations

import pytest
from helpers.restless import Weather, World
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump.formats import KDH, VMCORE

rates = st.sampled_from([0.0, 0.02, 0.2])
weathers = st.builds(
    Weather,
    loss=rates,
    duplicate=rates,
    abort=st.sampled_from([0.0, 0.1, 0.4]),
    stall=rates,
    no_header=st.sampled_from([0.0, 0.5]),
)
forged = st.builds(
    Weather, loss=rates, abort=rates, stall=rates, forge=st.sampled_from([0.05, 0.5])
)
seeds = st.integers(0, 2**32)


def check_truth(world: World) -> None:
    """What is called complete is one dump of its client, byte for byte; whatever a dump says it
    has was sent by its client; no two have the same file."""
    for ended, sink in world.ended:
        sources = world.clients[ended.client].sources
        data = bytes(sink.files[VMCORE])
        if ended.complete:
            assert data in [source.vmcore for source in sources]
            kdh = bytes(sink.files[KDH])
            assert not kdh or (data, kdh) in [(source.vmcore, source.kdh) for source in sources]
        if ended.verdict in ("complete", "incomplete"):
            missing = {at for start, end in ended.missing for at in range(start, end)}
            assert any(
                all(
                    at in missing or data[at : at + 1] == source.vmcore[at : at + 1]
                    for at in range(len(data))
                )
                for source in sources
            )


def check_acked(world: World) -> None:
    """What was acked is in a file of a dump of its client."""
    sinks = [sink for sink in world.sinks.dumps if sink.log[-1:] != ["discard"]]
    for client, kind, offset, payload in world.acked:
        assert any(
            bytes(sink.files[kind][offset : offset + len(payload)]) == payload
            or (kind, offset, payload) in sink.others
            for sink in sinks
            if sink.name.startswith(f"info.{client}.")
        )


def check(seed: int, weather: Weather, seconds: float) -> None:
    world = World(seed, weather)
    world.run(seconds)
    check_acked(world)
    if not world.forged:
        check_truth(world)


@given(seeds, weathers)
@settings(max_examples=150)
def test_what_is_called_complete_is_its_source(seed, weather):
    check(seed, weather, 60.0)


@given(seeds, forged)
@settings(max_examples=50)
def test_what_is_acked_is_kept_whoever_forges(seed, weather):
    check(seed, weather, 60.0)


@pytest.mark.slow
@given(seeds, weathers | forged)
@settings(max_examples=5000)
def test_for_long(seed, weather):
    check(seed, weather, 200.0)


def test_in_good_weather_each_dump_is_complete():
    world = World(1, Weather())
    world.run(100.0)
    assert len(world.ended) > 20
    assert [ended.reason for ended, _ in world.ended[:-2]] == ["success"] * (len(world.ended) - 2)


def test_in_bad_weather_dumps_of_every_verdict_come():
    world = World(1, Weather(loss=0.05, duplicate=0.1, abort=0.1, stall=0.05, no_header=0.3))
    world.run(3000.0)
    kinds = {ended.verdict for ended, _ in world.ended}
    assert kinds >= {"complete", "incomplete", "unknown"}
    assert any(session for session in kinds)
