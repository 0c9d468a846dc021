# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a dump was slow, told from traffic that is slow for a known reason."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from helpers.reporting import timeline_of
from helpers.slow_dumps import Way, seen
from helpers.traffic import Dump, lose

from scapy_netdump import formats
from scapy_netdump.report.diagnosis import Cause, diagnose
from scapy_netdump.report.facts import facts
from scapy_netdump.report.timeline import Phase

DUMP = Dump(vmcore=bytes(1 << 20), kdh=bytes(512))
BOTH_ENDS = pytest.mark.parametrize("at", ["client", "server"])


def told(way, dump=DUMP):
    return diagnose(timeline_of(seen(dump, way)))


def test_a_long_way_makes_chunks_wait():
    found = told(Way(delay=0.01), replace(DUMP, vmcore=bytes(1 << 22)))
    assert found.cause is Cause.STOP_AND_WAIT
    assert "acks of a chunk (64 KiB on average)" in found.text
    assert found.text.startswith("98 %")
    assert "round trip 19.9 ms" in found.text
    assert found.text.endswith("3.12 MB/s in all.")  # 64 KiB in 21 ms


def test_messages_one_by_one_are_not_called_chunks():
    found = told(Way(delay=0.001), replace(DUMP, payload=1000, chunk=1000))
    assert found.cause is Cause.STOP_AND_WAIT
    assert "one message of 1000 bytes" in found.text


@BOTH_ENDS
def test_loss_of_messages(at):
    found = told(Way(lost=0.02, at=at, seed=1))
    assert found.cause is Cause.LOSS
    assert "pauses of 1 s on average" in found.text
    assert "The network lost messages" in found.text


def test_loss_of_acks_is_told_by_who_sees_them():
    assert "The network lost messages or acks." in told(Way(acks_lost=0.02, seed=1)).text
    at_server = told(Way(acks_lost=0.02, at="server", seed=1))
    assert at_server.cause is Cause.LOSS
    assert "lost acks on the way from there to the client" in at_server.text


@BOTH_ENDS
def test_a_server_that_is_slow_with_each_message(at):
    found = told(Way(service=0.002, at=at))
    assert found.cause is Cause.SERVER
    assert "one after the other" in found.text
    assert "at 7" in found.text  # 1448 bytes in 2 ms: 724 kB/s, less for the short ones


def test_a_server_that_stands_still_now_and_then():
    found = told(Way(sleep=lambda seqno: 0.4 * (seqno % 100 == 50)))
    assert found.cause is Cause.SERVER
    assert "7 pauses of up to 400 ms" in found.text


def test_a_server_slower_than_the_clients_patience_is_no_loss():
    found = told(Way(sleep=lambda seqno: 1.5 * (seqno % 100 == 50)))
    assert found.cause is Cause.SERVER
    assert "sent again what had arrived" in found.text


def test_a_client_that_is_busy():
    found = told(Way(pause=0.02))
    assert found.cause is Cause.CLIENT
    assert "had not sent on" in found.text
    found = told(Way(gap=0.001))
    assert found.cause is Cause.CLIENT


def test_a_client_that_sends_on_while_acks_are_under_way():
    found = told(Way(gap=0.001, delay=0.005))
    assert found.cause is Cause.FLOW
    assert "was sending" in found.text
    assert "up to 11 messages in flight and a round trip of 10 ms" in found.text


@BOTH_ENDS
def test_a_server_that_was_slow_to_answer(at):
    found = told(Way(start=5.0, timeout=10.0, at=at))
    assert found.cause is Cause.HERALD
    assert "5" in found.text
    assert "HERALD" in found.text


def test_without_acks_nothing_is_claimed():
    traffic = [one for one in seen(DUMP, Way()) if one.sport == formats.ACK_PORT]
    found = diagnose(timeline_of(traffic))
    assert found.cause is Cause.UNKNOWN
    assert "no acks" in found.text


def test_a_capture_that_lost_frames_claims_no_loss():
    """What the capture missed was not missed by the server: nothing was sent again."""
    found = diagnose(timeline_of(lose(seen(DUMP, Way(delay=0.01)), 0.05, Random(1))))
    assert found.cause is Cause.STOP_AND_WAIT


def test_copies_made_by_the_network_are_no_retransmissions():
    traffic = [twice for one in seen(DUMP, Way(delay=0.01)) for twice in (one, one)]
    timeline = timeline_of(traffic)
    assert timeline.totals.again == 0
    assert timeline.totals.copies == timeline.totals.messages
    assert diagnose(timeline).cause is Cause.STOP_AND_WAIT


@BOTH_ENDS
def test_shares_are_of_the_whole_time(at):
    timeline = timeline_of(seen(DUMP, Way(lost=0.01, acks_lost=0.01, at=at)))
    assert sum(timeline.totals.phases) == timeline.end
    assert timeline.totals.stalled[Phase.RESEND] <= timeline.totals.phases[Phase.RESEND]
    assert dict(facts(timeline))["data"].startswith("1 MiB")
