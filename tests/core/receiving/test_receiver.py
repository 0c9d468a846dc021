# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump server without sockets: what is acked, what is stored, and when a dump ends."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest
from helpers.receiving import DataPort, DataPorts, MemorySinks, message
from helpers.traffic import header

from scapy_netdump import wire
from scapy_netdump.core.receiving.events import (
    Ended,
    Event,
    HeaderReceived,
    Heralded,
    OffLimits,
    Refused,
    Started,
    WriteFailed,
)
from scapy_netdump.core.receiving.heralds import Herald, Heralds
from scapy_netdump.core.receiving.limits import Limits, networks
from scapy_netdump.core.receiving.receiver import Receiver
from scapy_netdump.core.receiving.session import Phase, Session
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import EKCD_KEY, FINISHED, HERALD, KDH, VMCORE
from scapy_netdump.kerneldump.key import DumpKey

PEER, LOCAL = ("192.0.2.2", 20024), "192.0.2.1"
OTHER = ("192.0.2.3", 20024)


class World:
    """A receiver, its dumps in memory, and what it told."""

    def __init__(self, by_port: bool = False, note_heralds: bool = False, **limits: Any) -> None:
        self.sinks = MemorySinks()
        self.receiver = Receiver(
            self.sinks, Limits(**limits), secret=b"", by_port=by_port, note_heralds=note_heralds
        )
        self.ports = DataPorts(self.receiver)
        self.events: list[Event] = []
        self.moved: list[tuple[Session, Session]] = []
        self.gone: list[Session] = []
        self.now = 0.0

    def herald(self, peer=PEER, path: bytes = b"", seqno: int = 1) -> DataPort | None:
        datagram = message(HERALD, seqno, 0, path)
        answer = self.ports.herald(peer, LOCAL, datagram, self.now)
        if answer is None:
            return None
        assert answer[1] == wire.ack(seqno)
        return answer[0]

    def said(self, session: DataPort, *messages: bytes) -> list[int]:
        """The numbers that were acked."""
        return list(wire.acks(session.receive(b"".join(messages), self.now, [*map(len, messages)])))

    def settle(self) -> list[Event]:
        events, closings, moved, gone = self.receiver.take()
        self.receiver.filing -= len(closings)
        self.moved += moved
        events += [closing.run(self.now) for closing in closings]
        self.events += events
        self.gone += gone
        return events

    def told(self, kind: type[Event]) -> list[Any]:
        self.settle()
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def world() -> World:
    return World()


def vmcore(seqno: int, offset: int, payload: bytes = b"data") -> bytes:
    return message(VMCORE, seqno, offset, payload)


def test_a_dump_from_herald_to_finished(world):
    session = world.herald(path=b"lab\0")
    (heralded,) = world.settle()
    assert isinstance(heralded, Heralded)
    assert (heralded.client, heralded.path, heralded.server) == (PEER[0], "lab", LOCAL)
    assert world.sinks.dumps == []
    assert world.said(session, vmcore(2, 0, b"one "), vmcore(3, 4, b"two ")) == [2, 3]
    (started,) = world.settle()
    assert isinstance(started, Started)
    assert (started.client, started.path, started.name) == (PEER[0], "lab", "info.192.0.2.2.0")
    assert world.sinks.asked == [(PEER[0], b"lab")]
    assert world.said(session, message(KDH, 4, 0, header(8))) == [4]
    assert world.said(session, message(FINISHED, 5)) == [5]
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.status, ended.complete) == ("success", "Dump complete", True)
    assert (ended.bytes_received, ended.bytes_expected, ended.missing) == (8, 8, [])
    sink = world.sinks.dumps[0]
    assert sink.files[VMCORE] == b"one two "
    assert sink.log == ["write", "write", "update", "sync", "finish"]


def test_data_of_one_burst_is_written_at_once_and_in_order(world):
    session = world.herald()
    burst = [vmcore(n, n * 4, bytes([n] * 4)) for n in range(100)]
    assert world.said(session, *burst) == list(range(100))
    assert world.sinks.dumps[0].written[VMCORE] == [(0, 400)]
    assert world.sinks.dumps[0].files[VMCORE] == b"".join(bytes([n] * 4) for n in range(100))


def test_numbers_may_start_anywhere_and_repeat(world):
    session = world.herald(seqno=0)
    assert world.said(session, vmcore(1, 0), vmcore(1, 4), message(FINISHED, 0)) == [1, 1, 0]
    assert world.told(Ended)[0].verdict == "unknown"


def test_finished_with_bytes_missing_is_incomplete_and_says_so(world):
    session = world.herald()
    world.said(session, vmcore(2, 0), vmcore(4, 8), message(FINISHED, 5))
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.complete, ended.missing) == ("incomplete", False, [(4, 8)])
    assert ended.status == "Dump incomplete: 4 of 12 bytes missing in 1 range"


def test_what_was_written_first_stays_and_differing_repeats_are_counted_and_acked(world):
    session = world.herald()
    world.said(session, vmcore(2, 0, b"good data"))
    assert world.said(session, vmcore(3, 5, b"evilNEW")) == [3]
    assert world.sinks.dumps[0].files[VMCORE] == b"good dataNEW"
    assert world.sinks.dumps[0].others == [(VMCORE, 5, b"evilNEW")]
    world.said(session, message(FINISHED, 4))
    (ended,) = world.told(Ended)
    assert (ended.conflicting_bytes, ended.repeated) == (4, 0)
    assert (ended.reason, ended.verdict, ended.complete) == ("contradicted", "contradicted", False)
    assert ended.status == "Dump contradicted: 4 bytes came with different values"


def test_bytes_that_differ_are_counted_once_however_often_they_come(world):
    session = world.herald()
    assert world.said(session, *[vmcore(n, 0, b) for n, b in enumerate((b"aa", b"bb", b"bb"))])
    assert session.account.conflicting_bytes == 2
    assert list(session.account.conflicts.ranges()) == [(0, 2)]


def test_of_bytes_that_differ_no_more_are_kept_and_acked_than_the_limit_says():
    world = World(other=60)  # which the header of each message counts for, too
    session = world.herald()
    messages = [vmcore(n, 0, bytes([n]) * 4) for n in range(1, 6)]
    assert world.said(session, *messages) == [1, 2, 3]
    assert world.said(session, vmcore(9, 4, b"goes on")) == [9]
    assert [data for _, _, data in world.sinks.dumps[0].others] == [b"\2" * 4, b"\3" * 4]
    assert [event.reason for event in world.told(OffLimits)] == ["more than 60 bytes differ"]


def test_other_bytes_that_cannot_be_stored_are_not_acked_and_may_come_again(world):
    session = world.herald()
    world.said(session, vmcore(2, 0, b"good"))

    def fail(kind: int, offset: int) -> None:
        raise StoreError("full")

    sink = world.sinks.dumps[0]
    sink.fail, works = fail, sink.fail
    assert world.said(session, vmcore(3, 0, b"evil")) == []
    sink.fail = works
    assert world.said(session, vmcore(3, 0, b"evil")) == [3]
    assert sink.others == [(VMCORE, 0, b"evil")]


def test_the_header_that_fits_counts_and_the_other_is_kept(world):
    session = world.herald()
    first, second = header(100, panicstring=b"one"), header(8, panicstring=b"two")
    burst = [message(KDH, 2, 0, first), vmcore(3, 0, b"12345678"), message(KDH, 4, 0, second)]
    assert world.said(session, *burst, message(FINISHED, 5)) == [2, 3, 4, 5]
    assert session.account.sound_header.panicstring == "two"
    assert session.account.other_headers == [first]
    assert world.sinks.dumps[0].others == [(KDH, 0, second)]
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.bytes_expected, ended.missing) == ("contradicted", 8, [])
    assert ended.status.startswith("Dump contradicted: 2 dump headers that differ")


def test_a_key_that_differs_is_kept_beside_the_first(world):
    session = world.herald()
    assert world.said(session, message(EKCD_KEY, 2, 0, b"one"), message(EKCD_KEY, 3, 0, b"two"))
    assert bytes(session.account.key) == b"one"
    assert world.sinks.dumps[0].others == [(EKCD_KEY, 0, b"two")]
    assert session.account.conflicting_bytes == 3


def began_again(world: World) -> Session:
    """A session whose HERALD was repeated before data came."""
    session = world.herald()
    assert world.herald() is session
    return session


def test_a_client_that_began_again_after_its_herald_has_two_dumps(world):
    session = began_again(world)
    first = [vmcore(n, 4 * n, b"AAAA") for n in range(3)]
    second = [vmcore(9 + n, 4 * n, b"BBBB") for n in range(3)]
    end = [message(KDH, 20, 0, header(12)), message(FINISHED, 21)]
    assert world.said(session, *first) == [0, 1, 2]
    assert world.said(session, *second, *end) == [9, 10, 11, 20, 21]
    assert world.sinks.vmcores() == [b"A" * 12, b"B" * 12]
    new, old = world.told(Ended)
    assert (old.dump, old.reason, old.complete) == (1, "contradicted", False)
    assert "two dumps of its client came to one port" in old.status
    assert (new.dump, new.reason, new.missing) == (2, "contradicted", [])
    (first,) = world.gone
    assert world.moved == [(first, first.successor)]


def test_what_two_dumps_have_in_common_both_have(world):
    session = began_again(world)
    same, first, second = b"SAME" * 2, b"AAAA", b"BBBB"
    world.said(session, vmcore(2, 0, same), vmcore(3, 8, first))
    assert world.said(session, vmcore(2, 0, same), vmcore(3, 8, second)) == [2, 3]
    assert world.said(session, vmcore(4, 12, second), message(FINISHED, 5)) == [4, 5]
    assert world.sinks.vmcores() == [same + first, same + second * 2]
    assert [ended.reason for ended in world.told(Ended)] == ["contradicted"] * 2


def test_a_retransmission_after_a_repeated_herald_is_of_the_same_dump(world):
    session = began_again(world)
    sent = [vmcore(n, 4 * n, bytes([n]) * 4) for n in range(8)]
    assert world.said(session, *sent, *sent) == [*range(8), *range(8)]
    assert len(world.sinks.dumps) == 1
    world.said(session, message(FINISHED, 8))
    assert world.told(Ended)[0].reason == "success"


def test_a_client_that_began_again_may_still_send_to_the_port_of_the_dump_before(world):
    old = world.herald()
    world.said(old, *[vmcore(n, 4 * n, b"AAAA") for n in range(3)])
    new = world.herald()  # answered, but an ack that came late from the old port was first
    second = [vmcore(9 + n, 4 * n, b"BBBB") for n in range(3)]
    assert world.said(old, *second, message(FINISHED, 12)) == [9, 10, 11, 12]
    assert world.sinks.vmcores() == [b"A" * 12, b"B" * 12]
    assert [ended.reason for ended in world.told(Ended)] == ["contradicted"] * 2
    assert new.session is None
    assert world.gone == [old.session]
    assert world.moved == [(old.session, old.session.successor)]


@pytest.mark.parametrize(("in_flight", "reason"), [(11, "contradicted"), (12, "success")])
def test_a_client_that_begins_again_and_leaves_out_what_was_here_is_doubted(in_flight, reason):
    world = World(in_flight=in_flight)
    session = world.herald()
    world.said(session, *[vmcore(n, 4 * n, b"same") for n in range(3)])
    world.herald()
    world.said(session, vmcore(9, 0, b"same"), vmcore(10, 12, b"more"), message(FINISHED, 11))
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.missing) == (reason, [])


@pytest.mark.parametrize("again", [[], [8], [0, 4, 8]])
def test_a_late_herald_and_what_is_sent_again_harm_no_running_dump(world, again):
    session = world.herald()
    world.said(session, *[vmcore(n, 4 * n) for n in range(3)])
    world.herald()
    assert world.said(session, *[vmcore(at, at) for at in again]) == again
    world.said(session, vmcore(10, 12), message(FINISHED, 11))
    assert world.told(Ended)[0].reason == "success"


def test_a_finished_whose_number_says_that_messages_did_not_come_ends_no_complete_dump(world):
    session = world.herald()
    world.said(session, vmcore(2, 0), message(FINISHED, 5))
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.verdict) == ("incomplete", "unknown")
    assert "2 messages before FINISHED" in ended.status


@pytest.mark.parametrize("seqno", [0, 1, 4])
def test_a_finished_that_is_numbered_before_the_data_may_be_another_dumps(world, seqno):
    session = world.herald()
    world.said(session, vmcore(2, 0), vmcore(3, 4), vmcore(4, 8))
    assert world.said(session, message(FINISHED, seqno)) == [seqno]
    assert world.told(Ended)[0].reason == "contradicted"


@pytest.mark.parametrize(("again", "reason"), [(True, "contradicted"), (False, "success")])
def test_a_header_numbered_before_the_data_is_another_dumps_only_after_a_herald(again, reason):
    world = World()
    session = world.herald()
    world.said(session, vmcore(3, 0), vmcore(4, 4), vmcore(5, 8))
    if again:
        world.herald()
    assert world.said(session, message(KDH, 2, 0, header(12)), message(FINISHED, 6)) == [2, 6]
    assert world.told(Ended)[0].reason == reason


def test_the_same_other_bytes_are_kept_once(world):
    session = world.herald()
    world.said(session, vmcore(2, 0, b"good"))
    assert world.said(session, *[vmcore(n, 0, b"evil") for n in range(3, 9)]) == [3, 4, 5, 6, 7, 8]
    assert world.sinks.dumps[0].others == [(VMCORE, 0, b"evil")]


def test_a_key_that_came_again_in_part_after_a_herald_is_doubted(world):
    session = world.herald()
    blob = DumpKey(2, bytes(32), bytes(256)).pack(600)
    pieces = [message(EKCD_KEY, 2 + n, 200 * n, blob[200 * n : 200 * n + 200]) for n in range(3)]
    assert world.said(session, *pieces) == [2, 3, 4]
    world.herald()
    world.said(session, pieces[2], vmcore(5, 0), message(KDH, 6, 0, header(4, dumpkeysize=600)))
    world.said(session, message(FINISHED, 7))
    assert world.told(Ended)[0].reason == "contradicted"


def test_a_client_that_began_again_and_is_led_to_a_finished_dumps_port_gets_its_own(world):
    old = world.herald()
    world.said(old, vmcore(2, 0), message(FINISHED, 3))
    new = world.herald()
    assert world.said(old, vmcore(2, 0, b"next"), message(FINISHED, 3)) == [2, 3]
    assert world.sinks.vmcores() == [b"data", b"next"]
    first, second = world.told(Ended)
    assert (first.reason, second.reason) == ("success", "contradicted")
    assert new.session is None


def test_what_comes_late_to_a_finished_dumps_port_harms_neither_it_nor_the_one_that_runs(world):
    old = world.herald()
    sent = vmcore(2, 0), message(KDH, 3, 0, header(4)), message(FINISHED, 4)
    world.said(old, *sent)
    new = world.herald()
    assert world.said(old, *sent) == [2, 3, 4]  # before the first data of the new one
    world.said(new, vmcore(2, 0, b"next"))
    world.herald()  # late, too
    assert world.said(old, *sent, vmcore(0, 0, b"junk"), vmcore(9, 4)) == [2, 3, 4]
    assert world.said(new, vmcore(3, 4), message(KDH, 4, 0, header(8)), message(FINISHED, 5))
    assert [ended.reason for ended in world.told(Ended)] == ["success", "success"]


def test_a_message_that_is_refused_says_nothing_of_the_order(world):
    session = world.herald()
    assert world.said(session, vmcore(2, 0), vmcore(999, 2**63)) == [2]
    assert world.said(session, message(KDH, 3, 0, header(4)), message(FINISHED, 4)) == [3, 4]
    assert world.told(Ended)[0].reason == "success"


def test_a_fault_while_a_dump_is_looked_into_costs_that_dump_alone(world):
    session = world.herald()
    world.said(session, vmcore(2, 0), message(FINISHED, 3))

    def broken(*_: object) -> bytes:
        raise OverflowError("a fault of ours")

    world.sinks.dumps[0].read = broken
    (ended,) = world.told(Ended)
    assert ended.reason == "error"
    assert "could not be looked into" in ended.status


def test_finished_with_the_number_of_the_herald_is_netdumpds_test_client(world):
    session = world.herald(seqno=0)
    world.said(session, vmcore(1, 0), vmcore(2, 4), message(FINISHED, 0))
    (ended,) = world.told(Ended)
    assert ended.status == (
        "Dump not known to be complete: FINISHED has no number that tells its end, and no sound "
        "dump header came, its length is not known"
    )


def test_long_after_a_repeated_herald_bytes_that_differ_are_a_contradiction(world):
    session = began_again(world)
    world.said(session, vmcore(2, 0))
    world.now = 61.0
    assert world.said(session, vmcore(3, 0, b"evil")) == [3]
    assert len(world.sinks.dumps) == 1
    assert session.account.conflicting_bytes == 4


def test_where_there_is_no_room_for_another_dump_what_differs_is_kept_beside_it(world):
    session = began_again(world)
    world.said(session, vmcore(2, 0))
    world.sinks.full = True
    assert world.said(session, vmcore(3, 0, b"evil"), vmcore(4, 4)) == [3, 4]
    assert world.sinks.dumps[0].others == [(VMCORE, 0, b"evil")]
    assert [event.reason for event in world.told(Refused)] == ["no room"]


def test_repeats_are_acked_and_not_written_again(world):
    session = world.herald()
    for _ in range(3):
        assert world.said(session, vmcore(2, 0)) == [2]
    assert world.sinks.dumps[0].written[VMCORE] == [(0, 4)]
    world.said(session, message(FINISHED, 3))
    assert world.told(Ended)[0].repeated == 2


# Faults of the reference server


def full_from(offset: int) -> Any:
    """A disk that takes no vmcore from an offset on."""

    def fail(kind: int, at: int) -> None:
        if kind == VMCORE and at >= offset:
            raise StoreError("vmcore: No space left on device")

    return fail


def test_nothing_is_acked_that_could_not_be_written(world):
    session = world.herald()
    world.sinks.fail = full_from(8)
    burst = vmcore(2, 0), vmcore(3, 4), message(KDH, 4, 0, header(16))
    assert world.said(session, *burst) == [2, 3, 4]
    assert world.said(session, vmcore(5, 8), vmcore(6, 12)) == []
    (failed,) = world.told(WriteFailed)
    assert (failed.file, failed.offset) == ("vmcore", 8)
    assert "No space left" in failed.error
    world.now = 601.0
    world.receiver.expire(world.now)
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.missing) == ("error", [(8, 16)])
    assert "No space left" in ended.status


def test_a_disk_that_is_full_for_a_moment_costs_no_dump(world):
    session = world.herald()
    world.said(session, vmcore(2, 0))
    sink = world.sinks.dumps[0]
    sink.fail, works = full_from(0), sink.fail
    for _ in range(3):
        assert world.said(session, vmcore(3, 4), vmcore(4, 8)) == []
    sink.fail = works
    assert world.said(session, vmcore(3, 4), vmcore(4, 8)) == [3, 4]
    assert world.said(session, message(KDH, 5, 0, header(12)), message(FINISHED, 6)) == [5, 6]
    assert world.told(Ended)[0].reason == "success"
    assert len(world.told(WriteFailed)) == 1  # they do not fill the log


def test_a_dump_whose_first_bytes_cannot_be_stored_begins_when_they_can(world):
    session = world.herald()
    world.sinks.fail = full_from(0)
    assert world.said(session, vmcore(2, 0)) == []
    assert [sink.log for sink in world.sinks.dumps] == [["discard"]]
    assert world.told(Started) == []
    world.sinks.fail = full_from(100)
    assert world.said(session, vmcore(2, 0)) == [2]
    assert len(world.told(Started)) == 1


def test_what_was_written_before_a_failure_in_the_same_burst_is_acked(world):
    session = world.herald()
    world.sinks.fail = full_from(100)
    assert world.said(session, vmcore(2, 0), vmcore(3, 100), vmcore(4, 4)) == [2]
    assert world.said(session, vmcore(4, 4)) == [4]


def test_a_finished_that_could_not_be_remembered_comes_again(world):
    session = world.herald()
    world.said(session, vmcore(2, 0), vmcore(3, 4))
    sink = world.sinks.dumps[0]
    noted = sink.note_finished

    def fail(*_: object) -> None:
        raise StoreError("vmcore: Input/output error")

    sink.note_finished = fail
    assert world.said(session, message(FINISHED, 4)) == []
    sink.note_finished = noted
    assert world.said(session, message(FINISHED, 4)) == [4]
    assert world.told(Ended)[0].reason == "success"


def test_while_messages_are_taken_no_others_are(world):
    """Another thread may try, while the disk holds up the first."""
    session = world.herald()
    world.said(session, vmcore(2, 0))
    sink, taken = world.sinks.dumps[0], []

    def during(kind: int, offset: int) -> None:
        sink.fail = lambda *_: None
        taken.append(session.session.receive(vmcore(4, 8), 0.0))

    sink.fail = during
    assert world.said(session, vmcore(3, 4)) == [3]
    assert taken == [b""]
    assert list(session.account.vmcore) == [(0, 8)]


def test_an_info_file_that_cannot_be_rewritten_ends_no_dump(world):
    session = world.herald()
    world.said(session, vmcore(2, 0))

    def refuse(*_: object) -> None:
        raise StoreError("info: No space left on device")

    world.sinks.dumps[0].update = refuse
    assert world.said(session, message(KDH, 3, 0, header(4)), message(FINISHED, 4)) == [3, 4]
    assert world.told(WriteFailed)[0].file == "info"
    assert world.told(Ended)[0].reason == "success"


def test_a_failure_to_file_a_finished_dump_is_an_error(world):
    session = world.herald()
    world.said(session, vmcore(2, 0))

    def refuse(*_: object) -> None:
        raise StoreError("info: Read-only file system")

    world.sinks.dumps[0].finish = refuse
    world.said(session, vmcore(2, 0), message(FINISHED, 3))
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.files["vmcore"]) == ("error", None)
    assert "Read-only" in ended.status


def test_the_largest_payload_of_a_udp_datagram_is_taken(world):
    session = world.herald()
    data = bytes(range(256)) * 256
    assert world.said(session, vmcore(2, 0, data[:65_483])) == [2]
    assert world.sinks.dumps[0].files[VMCORE] == data[:65_483]


def test_after_finished_repeats_are_acked_again_until_it_no_longer_lingers():
    world = World(linger=30.0)
    session = world.herald()
    parts = vmcore(2, 0), message(KDH, 3, 0, header(4)), message(FINISHED, 4)
    assert world.said(session, *parts) == [2, 3, 4]
    world.now = 29.0
    assert world.said(session, *parts) == [2, 3, 4]
    world.now = 58.0
    world.receiver.expire(world.now)
    assert world.said(session, parts[2]) == [4]
    world.now = 89.0
    world.receiver.expire(world.now)
    assert world.said(session, *parts) == []
    assert len(world.told(Ended)) == 1
    assert world.gone == [session.session]


def test_after_finished_new_data_is_neither_stored_nor_acked(world):
    session = world.herald()
    world.said(session, vmcore(2, 0), message(FINISHED, 3))
    assert world.said(session, vmcore(4, 4), vmcore(5, 2), message(KDH, 6, 0, header(4))) == []
    assert world.sinks.dumps[0].files[VMCORE] == b"data"


def test_heralds_lead_to_one_place_and_leave_nothing(world):
    assert len({world.herald(seqno=number) for number in range(1000)}) == 1
    assert world.sinks.dumps == []
    assert world.receiver.deadline() is None
    world.receiver.stop(world.now)
    assert world.told(Ended) == []


def test_data_may_come_long_after_its_herald(world):
    session = world.herald(path=b"lab\0")
    world.now = 599.0
    world.receiver.expire(world.now)
    assert world.said(session, vmcore(2, 0)) == [2]
    assert world.sinks.asked == [(PEER[0], b"lab")]


def test_a_herald_after_which_nothing_comes_leaves_a_file_if_that_is_asked_for():
    world = World(note_heralds=True, expiry=600.0)
    world.herald(path=b"lab\0")
    world.said(world.herald(OTHER), vmcore(2, 0), message(FINISHED, 3))
    assert world.receiver.deadline() == 30.0
    world.now = 601.0
    world.receiver.expire(world.now)
    ended = [one for one in world.told(Ended) if one.client == PEER[0]]
    assert [(one.reason, one.bytes_received) for one in ended] == [("timeout", 0)]
    assert "nothing came but HERALDs" in ended[0].status
    assert world.sinks.asked[-1] == (PEER[0], b"lab")
    world.receiver.expire(world.now)
    assert world.receiver.deadline() is None


def test_a_herald_ends_a_running_dump_only_when_data_comes_to_the_new_one(world):
    old = world.herald()
    world.said(old, vmcore(2, 0))
    new = world.herald()
    assert new is not old
    assert world.herald() is new
    assert world.said(old, vmcore(3, 4)) == [3]
    assert world.told(Ended) == []
    assert world.said(new, vmcore(2, 0)) == [2]
    (ended,) = world.told(Ended)
    assert (ended.dump, ended.reason) == (1, "timeout")
    assert "began another dump" in ended.status
    assert world.said(old, vmcore(4, 8)) == []
    assert world.gone == [old.session]


def test_a_finished_alone_on_a_new_session_does_not_end_the_running_one(world):
    old = world.herald()
    world.said(old, vmcore(2, 0))
    assert world.said(world.herald(), message(FINISHED, 2)) == [2]
    assert world.said(old, vmcore(3, 4)) == [3]


def test_a_silent_client_has_timed_out_and_one_that_is_heard_of_has_not():
    world = World(expiry=600.0)
    session = world.herald()
    world.said(session, vmcore(2, 0))
    world.now = 599.0
    world.receiver.expire(world.now)
    world.said(session, vmcore(2, 0))
    assert world.receiver.deadline() == 1199.0
    world.now = 1199.0
    world.receiver.expire(world.now)
    (ended,) = world.told(Ended)
    assert ended.reason == "timeout"
    assert ended.status.startswith("Dump not known to be complete: client timed out; ")


def test_a_dump_of_which_only_finished_is_missing_is_complete():
    world = World(expiry=600.0)
    session = world.herald()
    world.said(session, vmcore(2, 0), message(KDH, 3, 0, header(4)))
    world.now = 601.0
    world.receiver.expire(world.now)
    (ended,) = world.told(Ended)
    assert (ended.reason, ended.status) == ("success", "Dump complete")


def test_rubbish_keeps_no_session_alive():
    world = World(expiry=600.0)
    session = world.herald()
    world.said(session, vmcore(2, 0))
    world.now = 599.0
    assert world.said(session, b"rubbish", message(HERALD, 3), vmcore(4, 0)[:-1]) == []
    world.now = 601.0
    world.receiver.expire(world.now)
    assert world.told(Ended)[0].ignored == 3


def test_stopping_files_what_runs(world):
    running = world.herald()
    world.said(running, vmcore(2, 0))
    world.herald(OTHER)
    world.receiver.stop(world.now)
    (ended,) = world.told(Ended)
    assert ended.reason == "interrupted"
    assert ended.status.startswith("Dump not known to be complete: server was stopped")
    assert [sink.log[-1] for sink in world.sinks.dumps] == ["finish"]


# The dump header


def test_a_repeated_header_changes_nothing(world):
    session = world.herald()
    kdh = header(4, compression=2)
    for seqno in (2, 3, 4):
        assert world.said(session, message(KDH, seqno, 0, kdh)) == [seqno]
    assert len(world.told(HeaderReceived)) == 1
    assert world.sinks.dumps[0].log == ["write", "update"]
    assert world.said(session, message(KDH, 5, 0, header(9999))) == [5]
    assert session.account.header.dumplength == 4


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_headers_of_all_versions_are_read(world, version):
    session = world.herald()
    world.said(session, message(KDH, 2, 0, header(77, version=version)))
    (received,) = world.told(HeaderReceived)
    assert (received.kdh.version, received.kdh.dumplength, received.problem) == (version, 77, "")


@pytest.mark.parametrize(
    ("kdh", "problem"),
    [
        (header(4)[:100], "dump header of 100 bytes instead of 512"),
        (header(4, magic=b"Linux"), "dump header with a wrong magic"),
        (header(4, parity=1), "dump header with a wrong parity"),
    ],
)
def test_a_header_that_is_wrong_is_acked_and_noted(world, kdh, problem):
    session = world.herald()
    assert world.said(session, vmcore(2, 0), message(KDH, 3, 0, kdh)) == [2, 3]
    assert world.told(HeaderReceived)[0].problem == problem
    assert world.sinks.dumps[0].status == f"Dump incomplete: being received; {problem}"
    world.said(session, message(FINISHED, 4))
    (ended,) = world.told(Ended)
    verdict = "incomplete" if len(kdh) < 512 else "contradicted"
    assert (ended.reason, ended.verdict, ended.complete) == (verdict, verdict, False)
    assert ended.status == f"Dump {verdict}: {problem}"


def test_a_header_that_is_too_long_is_acked_and_its_end_ignored(world):
    session = world.herald()
    assert world.said(session, message(KDH, 2, 0, header(4) + b"more")) == [2]
    assert world.sinks.dumps[0].files[KDH] == header(4)


def test_a_key_in_several_messages(world):
    session = world.herald()
    blob = bytes(range(256)) * 16
    parts = [message(EKCD_KEY, 2 + i, i * 1448, blob[i * 1448 : (i + 1) * 1448]) for i in range(3)]
    assert world.said(session, *parts) == [2, 3, 4]
    assert bytes(session.account.key) == world.sinks.dumps[0].files[EKCD_KEY] == blob


# HERALDs


@pytest.mark.parametrize(
    "datagram",
    [b"", b"runt", message(VMCORE, 1), message(FINISHED, 1), message(HERALD, 1) + b"x", bytes(24)],
)
def test_what_is_no_herald_is_not_answered(world, datagram):
    assert world.receiver.herald(PEER, LOCAL, datagram, 0.0) is None
    assert world.sinks.dumps == []
    assert world.settle() == []


@pytest.mark.parametrize("path", [b"no nul", b"x" * 2000 + b"\0"])
def test_a_path_without_its_nul_or_too_long_leads_to_the_default_one_and_is_acked(world, path):
    world.said(world.herald(path=path), vmcore(2, 0))
    assert world.sinks.asked == [(PEER[0], b"")]
    assert "no NUL" in world.told(Started)[0].note


def test_two_clients_at_one_address_are_one_unless_told_apart_by_port():
    first, second = ("192.0.2.2", 1000), ("192.0.2.2", 2000)
    world = World()
    assert world.herald(first) is world.herald(second)
    world = World(by_port=True)
    assert world.herald(first) is not world.herald(second)


# Limits


def test_only_clients_in_allowed_networks_may_dump():
    world = World(allow=networks(["198.51.100.0/24", "2001:db8::/32"]))
    assert world.herald() is None
    assert world.sinks.dumps == []
    assert world.herald(("198.51.100.7", 20024)) is not None
    assert world.herald(("2001:db8::1%2", 20024)) is not None
    assert [event.client for event in world.told(Refused)] == [PEER[0]]


def test_a_dump_that_a_limit_cut_off_says_so():
    world = World(dump_size=8, expiry=600.0)
    session = world.herald()
    assert world.said(session, message(KDH, 2, 0, header(12)), vmcore(3, 0), vmcore(4, 4)) == [
        2,
        3,
        4,
    ]
    assert world.said(session, vmcore(5, 8)) == []
    world.now = 601.0
    world.receiver.expire(world.now)
    (ended,) = world.told(Ended)
    assert ended.reason == "limit"
    assert "cut off by a limit: the dump is larger than 8 bytes" in ended.status


@pytest.mark.parametrize("differs", [False, True])
def test_one_message_over_many_islands_is_one_read_and_one_write(world, differs):
    session = world.herald()
    islands = [vmcore(2 + n, 4 * n, b"x") for n in range(1000)]
    assert len(world.said(session, *islands)) == 1000
    sink = world.sinks.dumps[0]
    reads: list[tuple[int, int]] = []
    read = sink.read
    sink.read = lambda kind, start, end: reads.append((start, end)) or read(kind, start, end)
    del sink.written[VMCORE][:]
    data = b"xyz!" * 1000
    other = b"?" + data[1:] if differs else data
    assert world.said(session, vmcore(5000, 0, other)) == [5000]
    assert sink.written[VMCORE] == [(0, 4000)]
    assert sink.files[VMCORE] == data
    assert len(reads) <= 3
    assert session.account.conflicting_bytes == differs


def test_a_dump_may_not_be_too_large():
    world = World(dump_size=100)
    session = world.herald()
    assert world.said(session, vmcore(2, 96), vmcore(3, 97), vmcore(4, 2**63)) == [2]
    assert world.said(session, vmcore(5, 2**64 - 4)) == []
    (told,) = world.told(OffLimits)
    assert (told.offset, told.length) == (97, 4)
    assert world.sinks.dumps[0].written[VMCORE] == [(96, 100)]


def test_offsets_may_not_leap_and_data_may_not_lie_in_too_many_ranges():
    world = World(jump=1000, ranges=3)
    session = world.herald()
    assert world.said(session, vmcore(2, 0), vmcore(3, 1005), vmcore(4, 1000)) == [2, 4]
    assert world.said(session, vmcore(5, 8), vmcore(6, 16)) == [5]
    assert world.said(session, vmcore(7, 4), vmcore(8, 1004)) == [7, 8]
    assert len(world.told(OffLimits)) == 1


def test_a_key_without_end_is_not_taken(world):
    session = world.herald()
    assert world.said(session, message(EKCD_KEY, 2, 1 << 17, b"x")) == []
    assert len(world.told(OffLimits)) == 1


def begin(world: World, *addresses: str, port: int = 20024) -> list[list[int]]:
    """Have clients begin dumps: what of their first byte was acked."""
    return [world.said(world.herald((address, port)), vmcore(2, 0, b"x")) for address in addresses]


def test_so_many_clients_may_dump_at_once():
    world = World(clients=2)
    assert begin(world, "192.0.2.2", "198.51.100.3", "203.0.113.4") == [[2], [2], []]
    assert begin(world, "198.51.100.3") == [[2]]  # began anew, and is no third
    (refused,) = world.told(Refused)
    assert "2 clients" in refused.reason


def test_a_dump_that_stands_still_gives_its_place_to_one_that_moves():
    world = World(clients=2)
    begin(world, "192.0.2.2", "198.51.100.3")
    large = world.herald(("192.0.2.2", 20024))
    world.said(large, *[vmcore(3 + n, 60_000 * n, bytes(60_000)) for n in range(3)])
    world.now = 5.0
    assert begin(world, "203.0.113.4") == [[2]]  # the larger of those that stand still stays
    ended = [one for one in world.told(Ended) if one.client == "198.51.100.3"]
    assert "it stood still, and another client needed its place" in ended[0].status
    world.now = 6.0
    world.said(large, *[vmcore(10 + n, 180_000 + 60_000 * n, bytes(60_000)) for n in range(3)])
    world.now = 10.0
    assert begin(world, "203.0.113.5") == [[2]]
    assert world.told(Ended)[-1].client == "203.0.113.4"


def test_a_trickle_is_no_move():
    world = World(clients=1)
    port = world.herald()
    for second in range(8):
        world.now = float(second)
        assert world.said(port, vmcore(2 + second, second, b"x")) == [2 + second]
    assert begin(world, "203.0.113.5") == [[2]]


def test_one_network_and_one_address_have_no_more_than_their_part():
    world = World(clients=8)
    near = [f"192.0.2.{number}" for number in range(2, 10)]
    assert begin(world, *near) == [[2]] * 6 + [[], []]
    assert "of its network" in world.told(Refused)[-1].reason
    assert begin(world, "198.51.100.1", "2001:db8::1", "2001:db8::2") == [[2], [2], []]
    world = World(clients=8, by_port=True)
    begun = [begin(world, PEER[0], port=port) for port in range(1, 6)]
    assert begun == [[[2]]] * 4 + [[[]]]
    assert "of its address" in world.told(Refused)[-1].reason


def test_no_more_dumps_begin_than_can_be_filed():
    world = World(clients=2, heralds=100)
    for number in range(2):
        session = world.herald((f"198.51.100.{number}", 1))
        world.said(session, vmcore(2, 0), message(FINISHED, 3))
    assert begin(world, "203.0.113.1") == [[]]
    refused = [event for event in world.receiver.take().events if isinstance(event, Refused)]
    assert "being filed" in refused[0].reason
    world.receiver.filing = 0
    assert begin(world, "203.0.113.1") == [[2]]


def test_all_places_that_a_client_was_told_of_are_looked_at(world):
    old = world.herald()
    world.said(old, vmcore(2, 0), message(FINISHED, 3))
    new = world.herald()  # which has another place, as the finished dump lingers in the first
    assert world.receiver.slots_of(PEER) == {old.slot, new.slot}
    assert world.said(old, vmcore(2, 0, b"next")) == [2]  # led there by a late ack
    assert world.receiver.slots_of(PEER) == {old.slot}


def test_data_that_comes_where_no_herald_led_begins_no_dump(world):
    slots = [world.receiver.session(PEER, LOCAL, slot, vmcore(2, 0), 0.0) for slot in range(64)]
    assert sum(session is not None for session in slots) == 1  # which a stranger has to guess


def test_late_data_of_a_dump_that_another_one_ended_begins_none(world):
    old = world.herald()
    world.said(old, vmcore(2, 0))
    new = world.herald()
    world.said(new, vmcore(2, 0, b"next"))
    world.herald()  # late, too
    assert world.said(old, vmcore(3, 4)) == []
    assert world.said(new, vmcore(3, 4)) == [3]
    assert len(world.sinks.dumps) == 2


def test_a_client_behind_an_address_translator_may_send_data_from_another_port():
    world = World(by_port=True)
    first, second = world.herald(("192.0.2.2", 1000)), world.herald(("192.0.2.2", 2000))
    assert first.slot != second.slot
    for port, slot in ((1000, second.slot), (1001, first.slot)):
        session = world.receiver.session(("192.0.2.2", port), LOCAL, slot, vmcore(2, 0), 0.0)
        assert session.receive(vmcore(2, 0), 0.0) == wire.ack(2)
    assert [one.client_port for one in world.receiver.sessions()] == [2000, 1000]


def test_so_many_dumps_may_begin_in_a_second_and_refusals_do_not_fill_the_log():
    world = World(heralds=5, clients=1000)
    begin(world, *[f"198.51.{number}.1" for number in range(100)])
    assert len(world.sinks.dumps) == 5
    assert len(world.told(Refused)) == 1
    world.now = 1.0
    begin(world, *[f"203.0.{number}.1" for number in range(10)])
    assert len(world.sinks.dumps) == 10
    assert world.told(Refused)[-1].count == 95


def test_one_address_begins_no_more_than_its_part_of_all_dumps(world):
    world = World(heralds=8, clients=1000)
    for number in range(4):
        world.said(world.herald(), vmcore(2, 0, bytes([number])), message(FINISHED, 3))
        world.settle()
    assert len(world.sinks.dumps) == 2
    assert begin(world, *[f"198.51.{number}.1" for number in range(8)]).count([2]) == 6


def test_floods_of_heralds_do_not_fill_the_log(world):
    for number in range(1000):
        world.herald((f"198.51.{number % 250}.{number // 250}", 1))
    world.now = 1.0
    world.herald()
    told = world.told(Heralded)
    assert len(told) <= 20
    assert sum(event.count for event in told) == 1001


def test_finished_dumps_that_linger_are_no_more_than_clients():
    world = World(clients=3, heralds=100)
    for number in range(10):
        session = world.herald((f"198.51.{number}.1", 1))
        world.said(session, vmcore(2, 0), message(FINISHED, 3))
        world.settle()
    assert len(world.told(Ended)) == 10
    assert len(world.gone) == 7


def test_a_dump_that_there_is_no_place_for_is_refused(world):
    world.sinks.full = True
    assert begin(world, PEER[0]) == [[]]
    assert world.told(Refused)[0].reason == "no room"


def test_a_network_is_checked_when_it_is_given():
    assert networks(["192.0.2.1"]) == (ip_network("192.0.2.1/32"),)
    with pytest.raises(ValueError, match="host bits"):
        networks(["192.0.2.1/24"])


def test_events_are_json():
    world = World()
    session = world.herald(path=b"\xff\0")
    world.said(session, vmcore(2, 0), message(KDH, 3, 0, header(4)), message(FINISHED, 4))
    world.settle()
    for event in world.events:
        assert json.loads(json.dumps(event.as_dict()))["event"] == event.kind
    assert session.phase is Phase.LINGERING


def test_what_strangers_cost_at_most():
    """README tells some of these, and the others bound a server's memory."""
    limits = Limits()
    assert (limits.clients, limits.ranges, limits.other) == (128, 2048, 16 << 20)
    heralds = Heralds(64, b"")
    slots = {}
    for number in range(10_000):
        address = f"10.{number >> 8}.{number & 255}.1"
        said = Herald((address, 0), 20024, LOCAL, 1, b"", "", float(number))
        slots[address] = heralds.note(said, ())
    remembered = [address for address, slot in slots.items() if heralds.last(address, slot)]
    assert remembered == list(slots)[-8192:]
    assert set(slots.values()) == set(range(64))


def test_how_long_and_how_many_places_rest_after_their_dumps():
    world = World(heralds=1e6, clients=1000, linger=30.0)
    ports = []
    for number in range(260):
        ports.append(world.herald((f"10.{number >> 8}.{number & 255}.1", 1)))
        world.said(ports[-1], vmcore(2, 0), message(FINISHED, 3))
        world.settle()
    world.now = 31.0
    world.receiver.expire(world.now)
    late = [bool(world.said(port, vmcore(9, 0, b"late"))) for port in ports]
    assert late == [True] * 4 + [False] * 256
    world.now = 62.0
    assert world.said(ports[-1], vmcore(9, 0, b"late")) == [9]
