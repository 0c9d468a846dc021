# SPDX-License-Identifier: GPL-2.0-or-later
"""Several sources for one dump: recovery continues what an earlier one, or a server, left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
import zstandard
from helpers.traffic import Datagram, Dump, header, key_blob, lose, pcap
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recover import CLEAN, CLEAN_SHA256, CLIENT_SIDE, SERVER_SIDE, sha256, the_only, write

from scapy_netdump.cli.main import main
from scapy_netdump.core.account import Account
from scapy_netdump.core.extents import Extents
from scapy_netdump.core.observing.disputes import Prefer
from scapy_netdump.core.verdict import Kind
from scapy_netdump.formats import VMCORE
from scapy_netdump.kerneldump.info import info_text
from scapy_netdump.recovery.recoverer import Recoverer, Recovery
from scapy_netdump.store import continuation
from scapy_netdump.store.abandoned import mark_abandoned
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.live_dumps import LiveDumps
from scapy_netdump.store.mapfile import mapfile_text, parse_mapfile

HOST = "10.99.0.2"
DATA = Random(5).randbytes(60_000)
KDH = header(len(DATA))
KEY = key_blob(Random(6))
ZSTD = b"\x28\xb5\x2f\xfd"
WHOLE = Dump(vmcore=DATA, kdh=KDH)
DOUBT = "continued by bytes in common alone, without the same header in both"
EXTRA = (".map", ".part", ".new")
DOUBTED = f"Dump contradicted: {DOUBT}"


def recover(
    directory: Path, *traffics: list[Datagram], into: bool = False, prefer: Prefer = Prefer.ACKED
) -> Recovery:
    """What ``recover -o`` makes of these captures, or ``--into``."""
    with Recoverer(directory, into=into, prefer=prefer) as recoverer:
        for number, traffic in enumerate(traffics):
            capture = directory.with_name(f"{directory.name}.{number}.pcap")
            capture.write_bytes(pcap(traffic))
            recoverer.read(str(capture))
        return recoverer.finish()


def contents(directory: Path) -> dict[str, bytes | str]:
    """All there is in a directory."""
    return {
        path.name: os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in directory.iterdir()
    }


def state(directory: Path, vmcore: str) -> tuple[bytes, list[tuple[int, int]] | None, str]:
    """A vmcore, what its mapfile says is missing (None: there is none), its status."""
    map_ = directory / f"{vmcore}.map"
    missing = parse_mapfile(map_.read_text())[0] if map_.exists() else None
    stem = vmcore.removeprefix("vmcore").removeprefix("_encrypted")
    info = directory / f"info{stem.removesuffix('.gz').removesuffix('.zst')}"
    return (directory / vmcore).read_bytes(), missing, info.read_text().splitlines()[-1]


def without(traffic: list[Datagram], *ranges: tuple[int, int]) -> list[Datagram]:
    """What a capture shows that lacks the messages of some bytes."""
    return [seen for seen in traffic if not any(_within(seen, *range_) for range_ in ranges)]


def _within(seen: Datagram, start: int, end: int) -> bool:
    is_data = len(seen.payload) > 24 and int.from_bytes(seen.payload[:4], "big") == VMCORE
    return is_data and start <= int.from_bytes(seen.payload[8:16], "big") < end


# The two sides of a real transfer


@pytest.mark.parametrize("order", [(SERVER_SIDE, CLIENT_SIDE), (CLIENT_SIDE, SERVER_SIDE)])
def test_both_sides_of_the_lossy_dump_one_after_the_other(
    order: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = main(["recover", order[0], "-o", str(tmp_path)])
    assert main(["recover", order[1], "-o", str(tmp_path)]) == 0
    assert sha256(tmp_path / "vmcore.10.98.0.2.0") == CLEAN_SHA256
    output = capsys.readouterr().out
    if first:
        assert "continued, 33304 missing bytes filled" in output
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            *("bounds.10.98.0.2", "info.10.98.0.2.0", "info.10.98.0.2.last", "kdh.10.98.0.2.0"),
            *("vmcore.10.98.0.2.0", "vmcore.10.98.0.2.last"),
        ]
        assert (tmp_path / "bounds.10.98.0.2").read_text() == "1\n"
        assert state(tmp_path, "vmcore.10.98.0.2.0")[2] == "Dump complete"
    else:
        assert "vmcore.10.98.0.2.0: has all of this already" in output
        assert not (tmp_path / "info.10.98.0.2.1").exists()
        assert os.readlink(tmp_path / "vmcore.10.98.0.2.last") == "vmcore.10.98.0.2.0"


def test_a_second_panic_gets_a_number_of_its_own(tmp_path: Path) -> None:
    recover(tmp_path / "crash", without(WHOLE.traffic(), (20_000, 30_000)))
    before = contents(tmp_path / "crash")
    other = Dump(vmcore=DATA[::-1], kdh=header(len(DATA), dumptime=1_800_000_000))
    recovery = recover(tmp_path / "crash", other.traffic())
    (note,) = recovery.notes
    assert "vmcore.10.99.0.2.0: not continued, another dump: dumptime is" in note
    assert "this one is" in note
    after = contents(tmp_path / "crash")
    for name in (f"vmcore.{HOST}.0", f"vmcore.{HOST}.0.map", f"info.{HOST}.0"):
        assert after[name] == before[name]
    assert the_only(recovery).transfer.filled_bytes is None
    assert the_only(recovery).files.vmcore == tmp_path / "crash" / f"vmcore.{HOST}.1"


def test_dumps_of_one_run_do_not_continue_each_other(tmp_path: Path) -> None:
    part = without(WHOLE.traffic(), (20_000, 30_000))
    later = [seen._replace(time=seen.time + 3600) for seen in WHOLE.traffic()]
    assert len(recover(tmp_path / "crash", part + later).dumps) == 2


def test_another_host_of_the_same_directory_is_left_alone(tmp_path: Path) -> None:
    recover(tmp_path / "crash", without(WHOLE.traffic(), (20_000, 30_000)))
    other = Dump(vmcore=DATA, kdh=KDH, client="10.99.0.3")
    recovery = recover(tmp_path / "crash", other.traffic())
    assert recovery.notes == []
    assert (tmp_path / "crash" / "vmcore.10.99.0.3.0").read_bytes() == DATA
    assert (tmp_path / "crash" / f"vmcore.{HOST}.0.map").exists()


# Any holes


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    rates=st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 0.9])] * 3),
    kdh=st.tuples(*[st.booleans()] * 3),
    into=st.booleans(),
)
def test_one_after_the_other_is_the_same_as_all_at_once(
    seed: int,
    rates: tuple[float, ...],
    kdh: tuple[bool, ...],
    into: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("holes")
    random = Random(seed)
    whole = [Dump(vmcore=DATA, kdh=KDH if known else b"").traffic() for known in kdh]
    parts = [lose(traffic, rate, random) for traffic, rate in zip(whole, rates, strict=True)]
    union = Extents()
    doubted = known = False
    for number, part in enumerate(parts):
        before = contents(tmp_path / "one") if number else {}
        continuable = any(name.startswith("vmcore") for name in before)
        recovery = recover(tmp_path / "one", part, into=into and continuable)
        check_claims(tmp_path / "one")
        if recovery.refused:
            assert contents(tmp_path / "one") == before
            return
        if not recovery.dumps or (number and the_only(recovery).transfer.filled_bytes is None):
            return  # too little in common to tell, or complete
        sure = has_header(part) and (known or not number)
        doubted |= bool(number and not sure and the_only(recovery).transfer.filled_bytes)
        known |= has_header(part)
        for seen in part:
            if _within(seen, 0, len(DATA)):
                start = int.from_bytes(seen.payload[8:16], "big")
                union.add(start, start + len(seen.payload) - 24)
        dump = the_only(recovery)
        assert dump.missing == list(union.missing(0, dump.account.bytes_expected))
    at_once = the_only(recover(tmp_path / "all", *parts))
    assert dump.missing == at_once.missing
    if len(parts) > 1 and not all(has_header(part) for part in parts):
        assert not (doubted and dump.complete)
    else:
        assert dump.complete == at_once.complete
    assert dump.files.vmcore is not None
    assert at_once.files.vmcore is not None
    assert dump.files.vmcore.read_bytes() == at_once.files.vmcore.read_bytes()


def has_header(traffic: list[Datagram]) -> bool:
    return any(seen.payload[24:] == KDH for seen in traffic)


def check_claims(directory: Path, data: bytes = DATA, host: str = HOST) -> None:
    """Every byte that the files of dumps say is here is the dump's."""
    for path in directory.glob(f"vmcore.{host}.*"):
        if path.is_symlink() or path.suffix in EXTRA:
            continue
        content, missing, status = state(directory, path.name)
        size = len(content)
        here = Extents()
        if missing is not None:
            size = parse_mapfile(path.with_name(f"{path.name}.map").read_text())[1]
        elif status == "Dump complete" and (directory / f"kdh.{host}.0").exists():
            size = len(data)
        for start, end in missing or []:
            here.add(start, end)
        for start, end in here.missing(0, size):
            assert content[start:end] == data[start:end], path.name
            assert end <= len(content)


@pytest.mark.skipif(shutil.which("ddrescuelog") is None, reason="needs ddrescuelog")
def test_ddrescues_own_tool_reads_the_mapfile_of_each_step(tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    for holes in ([(0, 9000), (20_000, 30_000)], [(5000, 22_000), (50_000, 70_000)]):
        recover(crash, without(WHOLE.traffic(), *holes))
        map_ = crash / f"vmcore.{HOST}.0.map"
        answer = subprocess.run(
            ["ddrescuelog", "--list-blocks=?", "--block-size=1", map_],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        missing = parse_mapfile(map_.read_text())[0]
        listed = Extents()
        for line in answer.stdout.split():
            listed.add(int(line), int(line) + 1)
        assert list(listed) == missing


# What nobody knows the holes of


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """What a server leaves that was killed: a hole nobody knows of, and zeros that came."""
    data = DATA[:10_000] + bytes(3000) + DATA[13_000:]
    dumps = LiveDumps(tmp_path / "crash", mkdir=True)
    dump = dumps.begin(HOST, b"")
    dump.write(VMCORE, [data[:20_000]], 0)
    dump.write(VMCORE, [data[25_000:40_000]], 25_000)
    dump._close()  # as the system does for a process that is killed
    dumps.close()
    return tmp_path / "crash"


ZEROS = Dump(vmcore=DATA[:10_000] + bytes(3000) + DATA[13_000:], kdh=KDH)


def test_a_part_of_a_killed_server_is_continued_only_when_asked(abandoned: Path) -> None:
    recovery = recover(abandoned, ZEROS.traffic())
    assert the_only(recovery).transfer.filled_bytes is None
    assert (abandoned / f"vmcore.{HOST}.0.part").exists()


@pytest.mark.parametrize("marked", [False, True])
def test_a_part_of_a_killed_server_becomes_whole(abandoned: Path, marked: bool) -> None:
    if marked:
        directory = Directory.open(abandoned)
        assert list(mark_abandoned(directory))
        directory.close()
    dump = the_only(recover(abandoned, ZEROS.traffic(), into=True))
    reasons = dump.verdict.reason.split("; ")
    assert (dump.verdict.kind, reasons[-1], dump.missing) == (Kind.CONTRADICTED, DOUBT, [])
    assert (abandoned / f"vmcore.{HOST}.0").read_bytes() == ZEROS.vmcore
    assert state(abandoned, f"vmcore.{HOST}.0")[2] == str(dump.verdict) == DOUBTED
    assert not list(abandoned.glob("*.part"))


def test_zeros_of_a_part_count_as_missing_if_the_capture_lacks_them(abandoned: Path) -> None:
    capture = without(ZEROS.traffic(), (9000, 23_000))
    dump = the_only(recover(abandoned, capture, into=True))
    assert not dump.complete
    here = Extents()
    for start, end in dump.missing:
        here.add(start, end)
    for start, end in [(10_136, 13_000), (20_000, 22_000)]:
        assert here.covers(start, end)
    check_claims(abandoned, ZEROS.vmcore)
    again = the_only(recover(abandoned, ZEROS.traffic()))
    assert again.transfer.filled_bytes
    assert str(again.verdict) == DOUBTED
    assert (abandoned / f"vmcore.{HOST}.0").read_bytes() == ZEROS.vmcore


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 32), rate=st.sampled_from([0.1, 0.5]), most=st.integers(0, 300))
def test_of_a_part_with_unknown_holes_nothing_is_claimed_that_is_not_so(
    seed: int, rate: float, most: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = Random(seed)
    crash = tmp_path_factory.mktemp("part") / "crash"
    crash.mkdir()
    part = bytearray(len(DATA))
    for start in range(0, len(DATA), 1448):
        if random.random() < rate:
            part[start : start + 1448] = ZEROS.vmcore[start : start + 1448]
    (crash / f"vmcore.{HOST}.0.part").write_bytes(part.rstrip(b"\0"))
    (crash / f"info.{HOST}.0").write_text(info_text(HOST, HOST, None, "Dump incomplete: killed"))
    capture = lose(ZEROS.traffic(), 0.3, random)
    with patch.object(continuation, "_MOST_RANGES", most):
        recovery = recover(crash, capture, into=True)
    if recovery.dumps:
        check_claims(crash, ZEROS.vmcore)
        captured = Extents()
        for seen in capture:
            if _within(seen, 0, len(DATA)):
                start = int.from_bytes(seen.payload[8:16], "big")
                captured.add(start, start + len(seen.payload) - 24)
        for start, end in the_only(recovery).missing:
            assert not captured.overlaps(start, end)


def test_a_dump_that_a_server_is_receiving_is_refused(tmp_path: Path) -> None:
    dumps = LiveDumps(tmp_path / "crash", mkdir=True)
    dump = dumps.begin(HOST, b"")
    dump.write(VMCORE, [DATA[:20_000]], 0)
    before = contents(tmp_path / "crash")
    recovery = recover(tmp_path / "crash", WHOLE.traffic(), into=True)
    assert "a server is still receiving it" in recovery.problems[0]
    assert contents(tmp_path / "crash") == before
    dump._close()
    dumps.close()


def netdumpds(directory: Path, panic: str = "page fault") -> Path:
    """What netdumpd calls complete, with a hole of zeros."""
    directory.mkdir()
    account = Account()
    account.headers.take(0, header(len(DATA), panicstring=panic.encode()))
    text = info_text("crashbox", HOST, account.header, "Dump complete")
    (directory / "info.crashbox.0").write_text(text)
    vmcore = directory / "vmcore.crashbox.0"
    vmcore.write_bytes(DATA[:30_000] + bytes(1448) + DATA[31_448:])
    return directory


def test_what_netdumpd_called_complete_is_filled(tmp_path: Path) -> None:
    crash = netdumpds(tmp_path / "crash")
    dump = the_only(recover(crash, WHOLE.traffic()[:100], WHOLE.traffic(), into=True))
    assert (str(dump.verdict), dump.missing) == (DOUBTED, [])
    assert (crash / "vmcore.crashbox.0").read_bytes() == DATA
    assert (crash / "kdh.crashbox.0").read_bytes() == KDH
    assert "Dump from crashbox [10.99.0.2]" in (crash / "info.crashbox.0").read_text()


def test_netdumpds_info_tells_another_dump(tmp_path: Path) -> None:
    crash = netdumpds(tmp_path / "crash", "double fault")
    before = contents(crash)
    recovery = recover(crash, WHOLE.traffic(), into=True)
    assert (
        "another dump: Panic String is double fault first, page fault second"
        in recovery.problems[0]
    )
    assert contents(crash) == before


# Refusals


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (Dump(vmcore=DATA, kdh=header(len(DATA), dumptime=5)), "another dump: dumptime is"),
        (Dump(vmcore=DATA[::-1]), "bytes of it differ"),
        (Dump(vmcore=DATA[::-1], kdh=KDH), "its header is the same, but "),
        (Dump(vmcore=DATA * 2), "another dump: 120000 bytes, where the header tells 60000"),
        (Dump(vmcore=b""), "no byte of a vmcore came"),
        (Dump(vmcore=DATA[:400]), "too few bytes in common to tell that it is the same dump: "),
    ],
)
def test_into_refuses_another_dump_in_one_line_and_changes_nothing(
    other: Dump, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = tmp_path / "crash"
    recover(crash, without(WHOLE.traffic(), (20_000, 30_000)))
    before = contents(crash)
    capture = write(tmp_path, pcap(other.traffic()))
    assert main(["recover", capture, "--into", str(crash)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"netdump: {crash}/vmcore.{HOST}.0: not continued, ")
    assert reason in err
    assert err.count("\n") == 1
    assert contents(crash) == before


def test_into_needs_a_dump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, reason in ((tmp_path, "holds no dump to continue"), (tmp_path / "no", "No such")):
        assert main(["recover", CLEAN, "--into", str(path)]) == 1
        assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_into_does_not_touch_what_is_complete(tmp_path: Path) -> None:
    recover(tmp_path / "crash", WHOLE.traffic())
    before = contents(tmp_path / "crash")
    recovery = recover(tmp_path / "crash", WHOLE.traffic(), into=True)
    assert "is complete already, nothing to fill" in recovery.problems[0]
    assert contents(tmp_path / "crash") == before


def test_a_mapfile_that_is_none_is_not_taken_for_one(tmp_path: Path) -> None:
    recover(tmp_path / "crash", without(WHOLE.traffic(), (20_000, 30_000)))
    (tmp_path / "crash" / f"vmcore.{HOST}.0.map").write_text("nonsense")
    recovery = recover(tmp_path / "crash", WHOLE.traffic())
    assert "mapfile: " in recovery.notes[0]
    assert the_only(recovery).complete
    assert the_only(recovery).transfer.filled_bytes is None


def test_a_decrypted_copy_is_not_filled_with_encrypted_bytes(tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    kdh = header(len(DATA), dumpkeysize=64)
    (crash / f"vmcore.{HOST}.0").write_bytes(DATA[:100])
    (crash / f"vmcore.{HOST}.0.map").write_text(mapfile_text([(100, len(DATA))], len(DATA)))
    (crash / f"kdh.{HOST}.0").write_bytes(kdh)
    before = contents(crash)
    encrypted = Dump(vmcore=DATA, kdh=kdh, key=b"k" * 64)
    recovery = recover(crash, encrypted.traffic(), into=True)
    assert "it is a decrypted or decompressed copy" in recovery.problems[0]
    assert contents(crash) == before


# What came only now


@pytest.mark.parametrize(
    ("fields", "key", "name"),
    [
        ({}, b"", f"vmcore.{HOST}.0"),
        ({"compression": 2}, b"", f"vmcore.{HOST}.0.zst"),
        ({"dumpkeysize": 64}, b"", f"vmcore_encrypted.{HOST}.0"),
        ({"dumpkeysize": 64, "compression": 1}, KEY, f"vmcore_encrypted.{HOST}.0.gz"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_header_that_comes_later_names_the_vmcore(
    fields: dict[str, int], key: bytes, name: str, whole: bool, tmp_path: Path
) -> None:
    crash = tmp_path / "crash"
    padding = 100 if fields.get("compression") else 0
    size = len(DATA) - padding
    data = DATA[:size] + bytes(padding)
    if fields == {"compression": 2}:
        data = zstandard.compress(DATA)
        size, data = len(data), data + bytes(padding)
    elif padding:
        data += bytes(-len(data) % 4096)  # a whole block, as each that is encrypted
    early = Dump(vmcore=data[:30_000], finished=False).traffic()
    kind = Kind.INCOMPLETE if data.startswith(ZSTD) else Kind.UNKNOWN
    assert the_only(recover(crash, early)).verdict.kind is kind
    late = Dump(vmcore=data, kdh=header(size, **fields), key=key).traffic()
    dump = the_only(recover(crash, late if whole else without(late, (50_000, 52_000))))
    assert dump.transfer.filled_bytes is not None
    assert dump.files.vmcore == crash / name
    assert str(dump.verdict).startswith(DOUBTED) is not bool(key)  # ciphertext is of one dump
    if whole and bool(key) >= ("dumpkeysize" in fields):
        assert str(dump.verdict) == ("Dump complete" if key else DOUBTED)
    content, missing, _ = state(crash, name)
    if dump.account.doubt:
        assert len(content) == len(data)  # then nothing is cut, not even padding
    assert (missing is None) is whole
    assert (crash / f"kdh.{HOST}.0").read_bytes() == header(size, **fields)
    assert (crash / f"key.{HOST}.0").exists() is bool(key)
    assert os.readlink(crash / f"vmcore.{HOST}.last") == name
    assert len([path for path in crash.iterdir() if path.name.startswith("vmcore")]) == 3 - whole


def test_the_links_stay_with_a_later_dump(tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    recover(crash, without(WHOLE.traffic(), (20_000, 30_000)))
    recover(crash, Dump(vmcore=b"later", kdh=header(5, dumptime=7)).traffic())
    assert the_only(recover(crash, WHOLE.traffic())).complete
    assert os.readlink(crash / f"vmcore.{HOST}.last") == f"vmcore.{HOST}.1"


# Which values are kept


@pytest.mark.parametrize("prefer", list(Prefer))
def test_what_differs_between_file_and_capture_is_told_and_kept_as_asked(
    prefer: Prefer, tmp_path: Path
) -> None:
    other = bytearray(DATA)
    other[1000:1010] = bytes(byte ^ 255 for byte in DATA[1000:1010])
    other[25_000] ^= 255  # in the hole: no conflict
    recover(tmp_path / "crash", without(WHOLE.traffic(), (20_000, 30_000)))
    capture = Dump(vmcore=bytes(other), kdh=KDH).traffic()
    dump = the_only(recover(tmp_path / "crash", capture, prefer=prefer))
    assert (dump.transfer.conflicting_bytes, dump.transfer.conflicts) == (10, [(1000, 1010)])
    assert dump.as_dict()["conflicts"] == [(1000, 1010)]
    wanted = DATA if prefer is not Prefer.LAST else bytes(other)
    content = (tmp_path / "crash" / f"vmcore.{HOST}.0").read_bytes()
    assert content[:20_000] == wanted[:20_000]
    assert str(dump.verdict) == "Dump contradicted: 10 bytes came with different values"
    assert state(tmp_path / "crash", f"vmcore.{HOST}.0")[1:] == (None, str(dump.verdict))


@pytest.mark.parametrize(("prefer", "kept"), [("first", 0), ("last", 1), ("acked", 1)])
def test_of_two_captures_the_preferred_one_is_kept(
    prefer: str, kept: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = bytes(4) + DATA[4:]
    captures = [
        write(tmp_path, pcap(Dump(vmcore=data, kdh=KDH, acked=acked).traffic()), f"{acked}.pcap")
        for data, acked in ((other, False), (DATA, True))
    ]
    assert main(["recover", *captures, "-o", str(tmp_path), "--prefer", prefer]) == 3
    assert (tmp_path / f"vmcore.{HOST}.0").read_bytes() == (other, DATA)[kept]
    assert "4 bytes came with different values" in capsys.readouterr().out


# Killed on the way

CALLS = ("pwrite", "fsync", "replace", "link", "unlink", "symlink", "ftruncate")


def killed_after(count: int, work: Callable[[], object]) -> bool:
    """Do some work in a process that is killed at its ``count``th change of a file; whether it
    got so far."""
    child = os.fork()
    if not child:
        try:
            _count_down(count)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def _count_down(count: int) -> None:
    left = iter(range(count))

    def watched(call: Callable[..., object]) -> Callable[..., object]:
        def change(*arguments: object, **named: object) -> object:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return change

    for name in CALLS:
        setattr(os, name, watched(getattr(os, name)))


def netdumpds_part(directory: Path) -> Path:
    """As if it had the address for the host's name; the second hole stays."""
    netdumpds(directory)
    vmcore = directory / f"vmcore.{HOST}.0"
    (directory / "vmcore.crashbox.0").rename(vmcore)
    (directory / "info.crashbox.0").rename(directory / f"info.{HOST}.0")
    vmcore.write_bytes(vmcore.read_bytes()[:50_000] + bytes(10_000))
    return directory


def merges() -> Iterator[tuple[str, Callable[[Path], object], list[Datagram], bytes]]:
    late = header(len(DATA), dumpkeysize=64)
    holed = without(WHOLE.traffic(), (20_000, 30_000))
    yield "holes", lambda crash: recover(crash, holed), WHOLE.traffic(), KDH
    ends = Dump(vmcore=DATA[:30_000], finished=False).traffic()
    # bytes far behind the end: the file grows over a hole before it has them all
    behind = without(WHOLE.traffic(), (31_000, 50_000))
    yield "grows", lambda crash: recover(crash, ends), behind, KDH
    renamed = Dump(vmcore=DATA, kdh=late, key=KEY).traffic()
    yield "renamed", lambda crash: recover(crash, ends), renamed, late
    yield "netdumpd's", netdumpds_part, without(WHOLE.traffic(), (52_000, 54_000)), KDH


@pytest.mark.parametrize(
    ("begin", "second", "kdh"),
    [pytest.param(begin, second, kdh, id=name) for name, begin, second, kdh in merges()],
)
def test_killed_at_any_moment_the_files_claim_no_more_than_they_have(
    begin: Callable[[Path], object], second: list[Datagram], kdh: bytes, tmp_path: Path
) -> None:
    begin_is_sure = second == WHOLE.traffic()
    for count in range(200):
        crash = tmp_path / str(count)
        begin(crash)
        into = begin is netdumpds_part
        killed = killed_after(
            count, lambda crash=crash, into=into: recover(crash, second, into=into)
        )
        if not into or (crash / f"kdh.{HOST}.0").exists():  # else it is as netdumpd left it
            check_claims(crash)
        encrypted = [path.name for path in crash.glob(f"vmcore_encrypted.{HOST}.?")]
        for name in encrypted:
            content, missing, _ = state(crash, name)
            assert missing == [] or content == DATA
        key = b"" if kdh == KDH else KEY
        again = recover(crash, Dump(vmcore=DATA, kdh=kdh, key=key).traffic(), into=into)
        check_claims(crash)
        if begin_is_sure:
            assert the_only(again).complete
        else:  # the first one had no header
            names = [p.name for p in crash.glob(f"vmcore*.{HOST}.0*") if p.suffix not in EXTRA]
            said = "Dump complete" if key else DOUBTED  # ciphertext is of one dump
            # two names: killed while it was renamed, and so it is not continued
            content, missing, status = state(crash, names[0])
            assert len(names) == 2 or (content, missing or [], status) == (DATA, [], said)
        shutil.rmtree(crash)
        if not killed:
            break
    else:
        pytest.fail("it never came to an end")
    assert count > 8


# What stays as it was told


def last_line(directory: Path) -> str:
    return (directory / f"info.{HOST}.0").read_text().splitlines()[-1]


def contradict(crash: Path, line: str) -> None:
    """Have the server's info file end with this."""
    info = crash / f"info.{HOST}.0"
    info.write_text("\n".join([*info.read_text().splitlines()[:-1], line, ""]))


@pytest.mark.parametrize("into", [False, True])
def test_what_was_contradicted_stays_so_when_its_holes_are_filled(
    into: bool, tmp_path: Path
) -> None:
    crash = tmp_path / "crash"
    recover(crash, without(WHOLE.traffic(), (20_000, 30_000)))
    why = "Dump contradicted: 8 bytes came with different values"
    contradict(crash, why + "; " + last_line(crash).removeprefix("Dump incomplete: "))
    dump = the_only(recover(crash, WHOLE.traffic(), into=into))
    assert dump.transfer.filled_bytes
    assert (crash / f"vmcore.{HOST}.0").read_bytes() == DATA
    assert str(dump.verdict) == last_line(crash) == why
    again = recover(crash, WHOLE.traffic(), into=into)
    (said,) = again.problems if into else again.notes
    assert said.startswith(f"{crash}/vmcore.{HOST}.0: is contradicted, nothing to fill")
    assert last_line(crash) == why


@pytest.mark.parametrize("name", [f"other.{HOST}.0", f"kdh.{HOST}.0.other"])
def test_second_versions_beside_a_dump_contradict_it(name: str, tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    recover(crash, without(WHOLE.traffic(), (20_000, 30_000)))
    (crash / name).write_bytes(b"other")
    recover(crash, WHOLE.traffic())
    assert last_line(crash) == f"Dump contradicted: what came differently is in {name}"


def test_two_panics_without_the_same_header_never_become_one_whole(tmp_path: Path) -> None:
    """They have the text of the kernel in common."""
    crash = tmp_path / "crash"
    other = bytearray(DATA[::-1])
    other[20_000:40_000] = DATA[20_000:40_000]
    early = [seen for seen in Dump(vmcore=DATA).traffic() if not _within(seen, 34_000, 1 << 20)]
    recover(crash, [seen for seen in early if seen.payload[:4] != b"\0\0\0\2"])
    late = without(Dump(vmcore=bytes(other), kdh=KDH).traffic(), (0, 24_000))
    dump = the_only(recover(crash, late))
    assert dump.transfer.filled_bytes
    assert str(dump.verdict) == last_line(crash) == DOUBTED
    recover(crash, late)
    assert last_line(crash) == DOUBTED


def test_the_same_again_of_unknown_length_stays_one_dump(tmp_path: Path) -> None:
    """The last message and the header are lost, as the number of FINISHED tells."""
    crash = tmp_path / "crash"
    capture = without(Dump(vmcore=DATA, kdh=KDH).traffic(), (58_000, 1 << 20))
    capture = [seen for seen in capture if seen.payload[24:] != KDH]
    status = str(the_only(recover(crash, capture)).verdict)
    assert "before FINISHED and no dump header came" in status
    before = contents(crash)
    recovery = recover(crash, capture)
    assert recovery.notes == [f"{crash}/vmcore.{HOST}.0: has all of this already"]
    assert str(the_only(recovery).verdict) == status
    assert contents(crash) == before
    assert main(["info", str(crash)]) == main(["info", str(crash / f"vmcore.{HOST}.0")]) == 3


# Much in common


MUCH = Random(8).randbytes(200_000)


def taps(kdh: tuple[bool, bool]) -> list[list[Datagram]]:
    """Two captures of one dump, which lack other messages of it, and perhaps its header."""
    whole = Dump(vmcore=MUCH, kdh=header(len(MUCH))).traffic()
    parts = [lose(whole[:-4], 0.04, Random(number)) for number in range(2)]
    return [part + whole[-4 if known else -2 :] for part, known in zip(parts, kdh, strict=True)]


@pytest.mark.parametrize("kdh", [(True, False), (False, True), (True, True)])
def test_two_captures_with_nearly_all_in_common_are_one_dump_without_a_doubt(
    kdh: tuple[bool, bool], tmp_path: Path
) -> None:
    parts = taps(kdh)
    at_once = the_only(recover(tmp_path / "all", *parts))
    for part in parts:
        dump = the_only(recover(tmp_path / "one", part))
    assert dump.files.vmcore == tmp_path / "one" / f"vmcore.{HOST}.0"
    assert str(dump.verdict) == str(at_once.verdict) == last_line(tmp_path / "one")
    assert dump.missing == at_once.missing
    assert dump.files.vmcore.read_bytes() == at_once.files.vmcore.read_bytes()


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("kdh", [header(len(MUCH)), b""])
@pytest.mark.parametrize("key", [b"", KEY])
def test_what_is_here_whole_is_not_filed_again(
    rate: float, kdh: bytes, key: bytes, tmp_path: Path
) -> None:
    whole = Dump(vmcore=MUCH, kdh=kdh and header(len(MUCH), dumpkeysize=len(key)), key=key)
    crash = tmp_path / "crash"
    first = the_only(recover(crash, whole.traffic()))
    before = contents(crash)
    again = lose(whole.traffic()[:-4], rate, Random(1)) + whole.traffic()[-4:]
    recovery = recover(crash, again)
    if first.complete and (kdh or rate < 0.5):
        assert recovery.notes == [f"{first.files.vmcore}: has all of this already"]
        assert the_only(recovery).complete
        assert contents(crash) == before


@pytest.mark.parametrize("size", [1500, 60_000])
def test_the_same_capture_again_adds_nothing(size: int, tmp_path: Path) -> None:
    """It has no header, and is so short that two dumps may begin like that."""
    for _ in range(2):
        recovery = recover(tmp_path / "crash", Dump(vmcore=DATA[:size]).traffic())
        assert the_only(recovery).files.vmcore == tmp_path / "crash" / f"vmcore.{HOST}.0"
    assert "has all of this already" in recovery.notes[0]


def test_what_differs_from_a_dump_that_is_whole_is_filed_beside_it(tmp_path: Path) -> None:
    """Its header is the same: some bytes of one of them are wrong, and nobody knows which."""
    crash = tmp_path / "crash"
    recover(crash, WHOLE.traffic())
    before = contents(crash)
    other = replace(WHOLE, vmcore=DATA[:30_000] + b"other" + DATA[30_005:])
    recovery = recover(crash, other.traffic())
    (note,) = recovery.notes
    assert note.startswith(f"{crash}/vmcore.{HOST}.0: is complete already, nothing to fill; this")
    assert the_only(recovery).files.vmcore == crash / f"vmcore.{HOST}.1"
    assert {name: contents(crash)[name] for name in (f"vmcore.{HOST}.0", f"info.{HOST}.0")} == {
        name: before[name] for name in (f"vmcore.{HOST}.0", f"info.{HOST}.0")
    }


def test_another_dump_beside_one_that_is_whole_and_has_no_header_is_no_news(tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    recover(crash, Dump(vmcore=DATA).traffic())
    recovery = recover(crash, Dump(vmcore=DATA[::-1]).traffic())
    assert recovery.notes == []
    assert the_only(recovery).files.vmcore == crash / f"vmcore.{HOST}.1"
