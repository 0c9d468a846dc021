# SPDX-License-Identifier: GPL-2.0-or-later
"""Recovery from end to end: real captures with their truth, and synthetic ones."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from helpers.captures import pcap_header, small_windows
from helpers.places import PCAPS
from helpers.traffic import (
    Datagram,
    Dump,
    coalesced,
    header,
    interleaved,
    lose,
    mirrored,
    pcap,
    pcapng,
    shuffled,
    snapped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump import formats
from scapy_netdump.capture import datagrams
from scapy_netdump.core.extents import Extents
from scapy_netdump.core.observing.selection import Selection
from scapy_netdump.dump.dump import Dump as OpenedDump
from scapy_netdump.errors import CaptureError
from scapy_netdump.recovery.recoverer import Recoverer, Recovery, recover
from scapy_netdump.store.hosts import address_bytes
from scapy_netdump.store.mapfile import parse_mapfile
from scapy_netdump.store.naming import Names

GENERATE = Path(__file__).with_name("benchmarks") / "generate.py"
CLEAN_SHA256 = "c580bf7b7fe4be23e60bde807ab249fda6a633e42b50ecf5fb15aa7f3605037e"
ENCRYPTED_SHA256 = "8cc65bc97e14e2fbcc69872126100a94deab90109b3e3c91d4bde4e39bde2a95"
SERVER_SIDE_SHA256 = "db6512c70a93579e8498f7736fab53748e5804363e9ca3b4f08509074e74cfde"
CLEAN, ENCRYPTED, CLIENT_SIDE, SERVER_SIDE = (
    str(PCAPS / f"kernel-{name}.pcap.gz")
    for name in ("clean", "encrypted-chacha20", "lossy-client-side", "lossy-server-side")
)


def sha256(path: Path | None) -> str:
    assert path is not None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def the_only(recovery: Recovery) -> OpenedDump:
    (dump,) = recovery.dumps
    return dump


def write(directory: Path, data: bytes, name: str = "capture") -> str:
    path = directory / name
    path.write_bytes(data)
    return str(path)


def vmcore_of(dump: OpenedDump) -> bytes:
    assert dump.files.vmcore is not None
    return dump.files.vmcore.read_bytes()


# The truth of the four real captures


@pytest.mark.parametrize("capture", [CLEAN, CLIENT_SIDE])
def test_both_whole_captures_of_the_kernel_yield_the_true_vmcore(
    capture: str, tmp_path: Path
) -> None:
    recovery = recover([capture], tmp_path)
    dump = the_only(recovery)
    assert recovery.problems == []
    assert dump.complete
    assert dump.transfer.finished
    assert dump.missing == []
    assert dump.account.bytes_received == dump.account.bytes_expected == 3_145_728
    assert dump.transfer.conflicting_bytes == 0
    assert sha256(dump.files.vmcore) == CLEAN_SHA256


def test_the_servers_side_of_the_lossy_dump_is_not_whole_whatever_both_ends_said(
    tmp_path: Path,
) -> None:
    dump = the_only(recover([SERVER_SIDE], tmp_path))
    assert dump.transfer.finished
    assert not dump.complete
    assert len(dump.missing) == 23
    assert sum(end - start for start, end in dump.missing) == 33_304
    assert dump.missing[0] == (118_864, 120_312)
    assert dump.missing[-1] == (2_863_104, 2_864_552)
    assert sha256(dump.files.vmcore) == SERVER_SIDE_SHA256
    assert dump.files.map is not None
    assert parse_mapfile(dump.files.map.read_text()) == (dump.missing, 3_145_728)
    assert dump.files.info is not None
    last = dump.files.info.read_text().splitlines()[-1]
    assert last == "Dump incomplete: 33304 of 3145728 bytes missing in 23 ranges"


@pytest.mark.parametrize("captures", [(CLIENT_SIDE, SERVER_SIDE), (SERVER_SIDE, CLIENT_SIDE)])
def test_both_sides_of_the_lossy_dump_together_are_one_whole_dump(
    captures: tuple[str, str], tmp_path: Path
) -> None:
    dump = the_only(recover(captures, tmp_path))
    assert dump.complete
    assert dump.transfer.conflicting_bytes == 0
    assert sha256(dump.files.vmcore) == CLEAN_SHA256
    assert dump.files.map is None


def test_the_encrypted_dump_is_kept_with_its_key(tmp_path: Path) -> None:
    dump = the_only(recover([ENCRYPTED], tmp_path))
    assert dump.complete
    assert dump.files.vmcore == tmp_path / "vmcore_encrypted.10.99.0.2.0"
    assert sha256(dump.files.vmcore) == ENCRYPTED_SHA256
    assert dump.files.key is not None
    assert dump.files.key.stat().st_size == 4096
    assert dump.kdh is not None
    assert dump.kdh.dumpkeysize > 0


@pytest.mark.parametrize("capture", [CLEAN, ENCRYPTED, CLIENT_SIDE, SERVER_SIDE])
def test_the_careful_path_finds_the_same_in_real_captures(capture: str, tmp_path: Path) -> None:
    assert outcome([capture], tmp_path / "fast") == outcome(
        [capture], tmp_path / "careful", careful=True
    )


@pytest.mark.parametrize(
    "capture", sorted(str(path) for path in PCAPS.iterdir() if ".pcap" in path.name)
)
def test_the_careful_path_finds_the_same_in_every_sample(capture: str, tmp_path: Path) -> None:
    assert outcome([capture], tmp_path / "fast") == outcome(
        [capture], tmp_path / "careful", careful=True
    )


def outcome(captures: list[str], directory: Path, careful: bool = False) -> object:
    """All there is to compare of a recovery: what is said, and every byte of every file."""
    with Recoverer(directory, careful=careful) as recoverer:
        for capture in captures:
            recoverer.read(capture)
        recovery = recoverer.finish()
    dumps = [{**dump.as_dict(), "files": None} for dump in recovery.dumps]
    files = {path.name: path.read_bytes() for path in sorted(directory.iterdir())}
    return dumps, recovery.notes, recovery.problems, recovery.frames, files


# Synthetic captures

VMCORE = Random(0).randbytes(300_000)
DUMP = Dump(vmcore=VMCORE, kdh=header(len(VMCORE)), path=b"lab\0")


def recover_from(directory: Path, *captures: bytes) -> Recovery:
    paths = [write(directory, data, f"capture{n}") for n, data in enumerate(captures)]
    return recover(paths, directory / "crash")


def test_a_dump_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    dump = the_only(recover_from(tmp_path, pcap(DUMP.traffic())))
    assert dump.complete
    assert dump.transfer.heralded
    assert dump.transfer.path == "lab"
    assert dump.kdh is not None
    assert dump.kdh.panicstring == "page fault"
    assert dump.transfer.retransmitted == 0
    assert vmcore_of(dump) == VMCORE


def test_what_a_snap_length_cut_off_is_missing_to_the_byte_and_counted(tmp_path: Path) -> None:
    traffic = snapped(DUMP.traffic(), 24 + 1000)
    recovery = recover_from(tmp_path, pcap(traffic))
    dump = the_only(recovery)
    arrived = Extents()
    for seen in traffic:
        if is_vmcore(seen):
            start = int.from_bytes(seen.payload[8:16], "big")
            arrived.add(start, start + len(seen.kept) - 24)
    assert dump.missing == list(arrived.missing(0, len(VMCORE)))
    assert dump.account.bytes_received == arrived.total < len(VMCORE)
    assert not recovery.complete
    cut = sum(len(seen.kept) < len(seen.payload) for seen in traffic)
    assert f"{cut} messages cut short by a snap length" in recovery.notes
    content = vmcore_of(dump)
    for start, end in arrived:
        assert content[start:end] == VMCORE[start:end]


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_a_capture_cut_at_any_byte_yields_what_came_before(kind: str, tmp_path: Path) -> None:
    dump = Dump(vmcore=VMCORE[:100], payload=40)
    data = (pcap if kind == "pcap" else pcapng)(dump.traffic())
    before = -1
    for cut in range(4 if kind == "pcapng" else 24, len(data) + 1):
        with Recoverer(None) as recoverer:
            recoverer.read(write(tmp_path, data[:cut]))
            recovery = recoverer.finish()
        received = sum(one.account.bytes_received for one in recovery.dumps)
        assert received >= before
        before = received
        assert not recovery.complete or received == 100
    assert recovery.complete


def test_captures_of_one_dump_fill_each_others_holes(tmp_path: Path) -> None:
    random = Random(3)
    halves = [pcap(lose(DUMP.traffic(), 0.4, random)) for _ in range(12)]
    assert not the_only(recover_from(tmp_path, halves[0])).complete
    (tmp_path / "all").mkdir()
    dump = the_only(recover_from(tmp_path / "all", *halves))
    assert dump.complete
    assert vmcore_of(dump) == VMCORE


# Dumps of one machine


FIRST = header(len(VMCORE), panicstring=b"first")
SECOND = header(len(VMCORE), panicstring=b"second")
OTHER = Random(7).randbytes(len(VMCORE))


@pytest.mark.parametrize("swap", [False, True])
def test_two_panics_in_two_captures_are_two_dumps_in_the_order_of_their_time(
    swap: bool, tmp_path: Path
) -> None:
    first = [*Dump(vmcore=VMCORE[:150_000], finished=False).traffic()]
    first += Dump(kdh=FIRST, heralded=False, finished=False, first_seqno=200).traffic()
    second = Dump(vmcore=OTHER, kdh=SECOND, start=1_700_086_400.0).traffic()
    captures = [pcap(first), pcap(second)]
    recovery = recover_from(tmp_path, *(reversed(captures) if swap else captures))
    broken, whole = recovery.dumps
    assert str(broken.verdict) == "Dump incomplete: 150000 of 300000 bytes missing in 1 range"
    assert [dump.panicstring for dump in recovery.dumps] == ["first", "second"]
    assert broken.files.vmcore == tmp_path / "crash" / "vmcore.10.99.0.2.0"
    assert vmcore_of(broken) == VMCORE[:150_000]
    assert whole.complete
    assert whole.files.vmcore == tmp_path / "crash" / "vmcore.10.99.0.2.1"
    assert vmcore_of(whole) == OTHER
    names = {path.name for path in (tmp_path / "crash").iterdir()}
    assert not any(name.endswith((".part", ".moving")) for name in names)
    assert "info.10.99.0.2.2" not in names
    assert (tmp_path / "crash" / "bounds.10.99.0.2").read_text() == "2\n"


def test_a_stray_message_far_behind_the_end_is_set_aside_and_said(tmp_path: Path) -> None:
    *traffic, finished, ack = DUMP.traffic()
    stray = DUMP.message(formats.VMCORE, 213, 1 << 40, b"s" * 1000)
    dump = the_only(recover_from(tmp_path, pcap([*traffic, stray, finished, ack])))
    reason = f"1000 stray bytes set aside, the first at {1 << 40}"
    assert str(dump.verdict) == f"Dump contradicted: {reason}"
    assert vmcore_of(dump) == VMCORE
    assert dump.files.other is not None
    assert dump.files.other.read_bytes() == stray.payload[:4] + bytes(4) + stray.payload[8:]


def test_of_two_headers_the_one_that_fits_counts_and_the_other_is_kept(tmp_path: Path) -> None:
    one, two = header(100, panicstring=b"one"), header(len(VMCORE), panicstring=b"two")
    traffic = Dump(vmcore=VMCORE, kdh=two).traffic()
    early = DUMP.message(formats.KDH, 2, 0, one)
    dump = the_only(recover_from(tmp_path, pcap([*traffic[:2], early, *traffic[2:]])))
    assert "2 dump headers that differ" in str(dump.verdict)
    assert dump.panicstring == "two"
    assert vmcore_of(dump) == VMCORE
    assert dump.files.kdh is not None
    assert dump.files.kdh.read_bytes() == two
    assert dump.files.kdh_other is not None
    assert dump.files.kdh_other.read_bytes() == one


def test_parts_of_a_rotated_capture_in_any_order_make_the_same_files(tmp_path: Path) -> None:
    traffic = [*DUMP.traffic(), *Dump(vmcore=OTHER, kdh=SECOND, start=1_700_000_100.0).traffic()]
    cuts = [0, 1, 90, 300, 435, 700, len(traffic)]
    parts = [pcap(traffic[begin:end]) for begin, end in pairwise(cuts)]
    files = []
    for order in ([*range(6)], [5, 3, 1, 0, 2, 4]):
        directory = tmp_path / str(order[0])
        directory.mkdir()
        assert recover_from(directory, *(parts[number] for number in order)).complete
        crash = directory / "crash"
        files.append({path.name: path.read_bytes() for path in crash.iterdir()})
    assert files[0] == files[1]
    assert files[0]["vmcore.10.99.0.2.0"] == VMCORE
    assert files[0]["vmcore.10.99.0.2.1"] == OTHER


def test_a_file_that_is_no_capture_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="capture0: not a capture"):
        recover_from(tmp_path, b"a file of text, and not a short one either")
    assert list((tmp_path / "crash").iterdir()) == []


def test_a_capture_without_netdump_has_no_dumps(tmp_path: Path) -> None:
    recovery = recover_from(tmp_path, pcap_header())
    assert recovery.dumps == []
    assert not recovery.complete


def test_a_dump_is_never_written_over(tmp_path: Path) -> None:
    first = the_only(recover_from(tmp_path, pcap(DUMP.traffic())))
    content = vmcore_of(first)
    again = the_only(recover_from(tmp_path, pcap(Dump(vmcore=b"other" * 100).traffic())))
    assert again.files.vmcore == tmp_path / "crash" / "vmcore.10.99.0.2.1"
    assert vmcore_of(first) == content


def test_when_a_host_has_no_number_left_its_dump_is_told_but_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Names, "most", 100)
    crash = tmp_path / "crash"
    crash.mkdir()
    for number in range(100):
        (crash / f"info.10.99.0.2.{number}").touch()
    recovery = recover_from(tmp_path, pcap(DUMP.traffic()))
    assert the_only(recovery).complete
    assert the_only(recovery).files.vmcore is None
    assert "100 dumps of 10.99.0.2" in recovery.problems[0]


@pytest.mark.parametrize(
    ("selection", "clients"),
    [
        (Selection(), {"10.99.0.2", "10.99.0.3"}),
        (Selection(client=address_bytes("10.99.0.3")), {"10.99.0.3"}),
        (Selection(server=address_bytes("10.99.0.1")), {"10.99.0.2", "10.99.0.3"}),
        (Selection(server=address_bytes("10.99.0.9")), set()),
        (Selection(port=4444), {"10.99.0.3"}),
    ],
)
def test_a_selection_narrows_what_is_recovered(
    selection: Selection, clients: set[str], tmp_path: Path
) -> None:
    traffic = interleaved(
        Random(1),
        Dump(vmcore=b"a" * 9000).traffic(),
        Dump(vmcore=b"b" * 9000, client="10.99.0.3", server_port=4444).traffic(),
    )
    with Recoverer(tmp_path / "crash", selection) as recoverer:
        recoverer.read(write(tmp_path, pcap(traffic)))
        recovery = recoverer.finish()
    assert {dump.transfer.client for dump in recovery.dumps} == clients


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 32), ng=st.booleans(), window=st.sampled_from([70_000, 300_000]))
def test_a_spoilt_mix_of_dumps_comes_out_right_and_the_same_on_both_paths(
    seed: int, ng: bool, window: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = Random(seed)
    tmp_path = tmp_path_factory.mktemp("mix")
    truth, streams = {}, []
    for number in range(random.randrange(1, 4)):
        client = f"2001:db8::{number + 2}" if random.random() < 0.3 else f"10.99.0.{number + 2}"
        vmcore = random.randbytes(random.randrange(1, 60_000))
        dump = Dump(
            vmcore=vmcore,
            client=client,
            server="2001:db8::1" if ":" in client else "10.99.0.1",
            kdh=header(len(vmcore)),
            payload=random.choice([100, 1448, 8948]),
            loss=random.choice([0.0, 0.2]),
            server_port=40_000 + number,
            seed=seed,
        )
        spoil = random.choice([list, mirrored, coalesced, lambda seen: shuffled(seen, 3, random)])
        streams.append(spoil(dump.traffic()))
        truth[client] = vmcore
    data = (pcapng if ng else pcap)(interleaved(random, *streams))
    path = write(tmp_path, data)
    with small_windows(window, lane_spacing=500, min_lanes=2):
        fast = outcome([path], tmp_path / "fast")
        careful = outcome([path], tmp_path / "careful", careful=True)
        recovery = recover([path], tmp_path / "crash")
    assert fast == careful
    assert {dump.transfer.client: vmcore_of(dump) for dump in recovery.dumps} == truth
    assert recovery.complete


def test_the_careful_path_is_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the comparisons above would compare nothing."""

    def refuse(*_: object) -> None:
        raise AssertionError("many frames at a time")

    monkeypatch.setattr(datagrams, "_sort_out", refuse)
    assert outcome([CLEAN], tmp_path / "careful", careful=True)
    with pytest.raises(AssertionError, match="many frames"):
        outcome([CLEAN], tmp_path / "fast")


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 30))
@settings(max_examples=40)
def test_damage_anywhere_in_a_compressed_or_plain_capture_never_raises(
    seed: int, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = Random(seed)
    tmp_path = tmp_path_factory.mktemp("damage")
    data = (pcapng if seed % 2 else pcap)(Dump(vmcore=VMCORE[:20_000]).traffic())
    spoilt = bytearray(gzip.compress(data, 1) if seed % 3 == 0 else data)
    for _ in range(count):
        spoilt[random.randrange(len(spoilt))] = random.randrange(256)
    path = write(tmp_path, bytes(spoilt))
    with contextlib.suppress(CaptureError):  # the first bytes were hit
        for dump in recover([path], tmp_path / "crash").dumps:
            assert dump.account.bytes_received <= max(20_000, dump.account.bytes_expected)


PEAK_PROGRAM = """
    import re, sys
    from pathlib import Path
    from scapy_netdump.recovery.recoverer import recover

    recovery = recover([sys.argv[1]], sys.argv[2])
    assert recovery.complete, (recovery.problems, recovery.dumps)
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(peak, recovery.dumps[0].files.vmcore)
"""


@pytest.mark.slow
@pytest.mark.parametrize("piped", [False, True], ids=["mapped", "pipe"])
@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_memory_does_not_grow_with_the_capture(kind: str, piped: bool, tmp_path: Path) -> None:
    """Peak resident size for 128 MB, more than all windows together, and for 512 MB; mapped
    pages count as resident too. It is taken from /proc, as getrusage(2) counts what the
    process was before it became Python."""
    peaks = []
    for size in (128, 512):
        path = tmp_path / f"{size}.{kind}"
        make = [sys.executable, GENERATE, path, "--size", f"{size}MB", "--format", kind]
        digest = subprocess.check_output(make, text=True).split()[0]
        program = [sys.executable, "-c", textwrap.dedent(PEAK_PROGRAM)]
        program += ["-" if piped else str(path), str(tmp_path / f"crash{size}")]
        with path.open("rb") as file:
            cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
            peak, vmcore = subprocess.check_output(program, stdin=cat.stdout, text=True).split()
            cat.kill()
            cat.wait()
        assert sha256(Path(vmcore)) == digest
        peaks.append(int(peak) // 1024)
        path.unlink()
        Path(vmcore).unlink()
    assert peaks[1] < peaks[0] + 20
    assert max(peaks) < 150


def is_vmcore(seen: Datagram) -> bool:
    return len(seen.payload) >= 24 and seen.payload[:4] == b"\0\0\0\3"


def test_a_client_with_a_port_of_its_own_is_known_in_the_next_file_of_a_rotation(
    tmp_path: Path,
) -> None:
    traffic = Dump(vmcore=VMCORE, kdh=header(len(VMCORE)), client_port=5555).traffic()
    half = len(traffic) // 2
    parts = [traffic[:half], traffic[half:]]
    files = [str(tmp_path / f"{number}.pcap") for number in range(2)]
    for name, part in zip(files, parts, strict=True):
        Path(name).write_bytes(pcap(part))
    (dump,) = recover(files, tmp_path / "crash").dumps
    assert dump.complete
