# SPDX-License-Identifier: GPL-2.0-or-later
"""The samples in pcaps/: fresh, sound, and recovered to just what they were made from."""

import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import pytest
import zstandard
from helpers.places import PCAPS
from scapy.all import rdpcap, sniff

from scapy_netdump import Netdump, NetdumpSession, formats
from scapy_netdump.dump.dump import Dump
from scapy_netdump.recovery.recoverer import recover

sys.path.append(str(PCAPS))
make_samples = import_module("make_samples")
samples = import_module("samples")

NAMES = [sample.name for sample in samples.SAMPLES]
LENGTH, PAYLOAD = len(samples.CRASH.vmcore), 1448
SNAPPED_PAYLOAD = samples.SNAP_LENGTH - 14 - 20 - 8 - 24  # Ethernet, IPv4, UDP, netdump

# What real captures hold: of the file that recovery writes, the sha256, and the bytes missing.
CLEAN = "c580bf7b7fe4be23e60bde807ab249fda6a633e42b50ecf5fb15aa7f3605037e"
HOLED = "db6512c70a93579e8498f7736fab53748e5804363e9ca3b4f08509074e74cfde"
ENCRYPTED = "8cc65bc97e14e2fbcc69872126100a94deab90109b3e3c91d4bde4e39bde2a95"
REAL = {
    "kernel-clean.pcap.gz": (CLEAN, 0),
    "kernel-lossy-client-side.pcap.gz": (CLEAN, 0),
    "kernel-lossy-server-side.pcap.gz": (HOLED, 33304),
    "kernel-encrypted-chacha20.pcap.gz": (ENCRYPTED, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What recovery has to find of one dump, by default of the usual one.

    ``vmcore`` is the whole file, ``missing`` says which of its bytes are not in the capture.
    """

    vmcore: bytes = samples.CRASH.vmcore
    strings: tuple[str, str] | None = ("crash.example.org", "page fault")
    client: str = "192.0.2.2"
    client_port: int = formats.ACK_PORT
    server: str = "192.0.2.1"
    path: str = ""
    heralded: bool = True
    finished: bool = True
    complete: bool = True
    missing: Sequence[tuple[int, int]] = ()
    conflicting_bytes: int = 0
    file: str = "vmcore.192.0.2.2.0"


USUAL = Truth()
LARGER = Truth(vmcore=samples.LARGER_CRASH.vmcore, strings=("larger.example.org", "page fault"))
TRUTHS: dict[str, list[Truth]] = {
    "jumbo.pcap": [LARGER],
    "vlan.pcap": [USUAL],
    "qinq.pcap": [USUAL],
    "ipv6.pcap": [
        Truth(client="2001:db8::2", server="2001:db8::1", file="vmcore.2001:db8::2.0"),
    ],
    "nanoseconds-big-endian.pcap": [USUAL],
    "two-interfaces.pcapng": [USUAL],
    "linux-cooked.pcap": [USUAL],
    "two-clients.pcap": [
        USUAL,
        Truth(
            vmcore=samples.OTHER_CRASH.vmcore,
            strings=("other.example.org", "vm_fault: fault on nofault entry"),
            client="192.0.2.3",
            file="vmcore.192.0.2.3.0",
        ),
    ],
    "two-dumps.pcap": [
        USUAL,
        Truth(
            vmcore=samples.NEXT_CRASH.vmcore,
            strings=("crash.example.org", "double fault"),
            file="vmcore.192.0.2.2.1",
        ),
    ],
    "no-kdh.pcap": [Truth(strings=None)],
    "kdh-first.pcap": [USUAL],
    "cut-short.pcap": [
        Truth(
            vmcore=samples.CRASH.vmcore[: 11 * PAYLOAD],
            strings=None,
            finished=False,
            complete=False,
        ),
    ],
    "middle.pcap": [Truth(heralded=False, complete=False, missing=[(0, 6 * PAYLOAD)])],
    "snapped.pcap": [
        Truth(
            strings=None,
            complete=False,
            missing=[
                (start + SNAPPED_PAYLOAD, min(start + PAYLOAD, LENGTH))
                for start in range(0, LENGTH, PAYLOAD)
            ],
        ),
    ],
    "fragments.pcap": [LARGER],
    "coalesced.pcap": [LARGER],
    "conflict.pcap": [Truth(complete=False, conflicting_bytes=samples.DAMAGED_BYTES)],
    "path.pcap": [Truth(path="lab/rack-7")],
    "zstd.pcap": [Truth(vmcore=samples.COMPRESSED_CRASH, file="vmcore.192.0.2.2.0.zst")],
    "client-port.pcap": [Truth(client_port=61024)],
    "hostile.pcap": [
        Truth(
            vmcore=samples.HOSTILE_CRASH.vmcore,
            strings=(samples.HOSTILE_CRASH.hostname, samples.HOSTILE_CRASH.panicstring),
            path=samples.HOSTILE_PATH.decode(),
        ),
    ],
}


def with_holes(vmcore: bytes, missing: Sequence[tuple[int, int]]) -> bytes:
    """The bytes of a file in which nothing was written where they are missing."""
    holed = bytearray(vmcore)
    for start, end in missing:
        holed[start:end] = bytes(end - start)
    return bytes(holed)


def found(dump: Dump) -> dict[str, object]:
    """A recovered dump in the terms of Truth, its file read back."""
    assert dump.transfer is not None
    names = ("client", "client_port", "server", "path", "heralded", "finished")
    assert dump.files.vmcore is not None
    return {
        **{name: getattr(dump.transfer, name) for name in (*names, "conflicting_bytes")},
        "complete": dump.complete,
        "missing": dump.missing,
        "bytes_expected": dump.account.bytes_expected,
        "strings": dump.kdh and (dump.kdh.hostname, dump.kdh.panicstring),
        "file": dump.files.vmcore.name,
        "sha256": sha256(
            dump.files.vmcore.read_bytes().ljust(dump.account.bytes_expected, b"\0")
        ).hexdigest(),
    }


def wanted(truth: Truth) -> dict[str, object]:
    """The same of what has to be found."""
    values = {name: getattr(truth, name) for name in truth.__slots__ if name != "vmcore"}
    return {
        **values,
        "missing": list(truth.missing),
        "bytes_expected": len(truth.vmcore),
        "sha256": sha256(with_holes(truth.vmcore, truth.missing)).hexdigest(),
    }


def test_samples_and_the_readme_are_fresh() -> None:
    """Another process makes them, so that nothing of this one can have a part in them."""
    script = [sys.executable, str(PCAPS / "make_samples.py"), "--check"]
    run = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr


def test_check_tells_what_is_stale_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"Before.\n{make_samples.BEGIN}\nold\n{make_samples.END}\nAfter.\n")
    monkeypatch.setattr(make_samples, "HERE", tmp_path)
    monkeypatch.setattr(make_samples, "README", readme)
    monkeypatch.setattr(make_samples, "SAMPLES", samples.SAMPLES[:1])
    assert make_samples.main(["--check"]) == 1
    assert capsys.readouterr().out == f"{NAMES[0]} is stale\nREADME.md is stale\n"
    assert list(tmp_path.iterdir()) == [readme]
    assert make_samples.main([]) == 0
    assert (tmp_path / NAMES[0]).read_bytes() == (PCAPS / NAMES[0]).read_bytes()
    assert readme.read_text().startswith(f"Before.\n{make_samples.BEGIN}\n")
    assert readme.read_text().endswith(f"{make_samples.END}\nAfter.\n")
    assert make_samples.main(["--check"]) == 0


def test_each_sample_has_its_truth_here_and_is_small() -> None:
    assert list(TRUTHS) == NAMES
    assert max((PCAPS / name).stat().st_size for name in NAMES) < 60_000


@pytest.mark.parametrize("name", NAMES)
def test_recovery_gives_what_the_sample_was_made_from(name: str, tmp_path: Path) -> None:
    recovery = recover([str(PCAPS / name)], tmp_path)
    assert [found(dump) for dump in recovery.dumps] == [wanted(truth) for truth in TRUTHS[name]]
    assert bool(recovery.problems) == (name == "cut-short.pcap")


def test_only_the_snapped_sample_is_reported_as_snapped(tmp_path: Path) -> None:
    notes = {name: recover([str(PCAPS / name)], tmp_path / name).notes for name in NAMES}
    snapped = [name for name, lines in notes.items() if "snap length" in " ".join(lines)]
    assert snapped == ["snapped.pcap"]


def test_a_capture_that_was_cut_and_one_that_began_late_make_a_whole_dump(tmp_path: Path) -> None:
    captures = [str(PCAPS / name) for name in ("cut-short.pcap", "middle.pcap")]
    (dump,) = recover(captures, tmp_path).dumps
    assert found(dump) == wanted(USUAL)


def test_a_hostile_sample_forges_no_line_and_leaves_the_directory_alone(tmp_path: Path) -> None:
    directory = tmp_path / "below" / "dumps"
    (dump,) = recover([str(PCAPS / "hostile.pcap")], directory).dumps
    assert dump.files.info is not None
    text = dump.files.info.read_text()
    lines = text.splitlines()
    assert [lines.index(line) for line in lines if line.startswith("Dump ")] == [0, len(lines) - 1]
    assert all(char.isprintable() for char in text.replace("\n", ""))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [
        path for path in directory.iterdir() if path.is_file()
    ]


def test_the_compressed_sample_decompresses_to_the_vmcore(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "zstd.pcap")], tmp_path).dumps
    assert dump.files.vmcore is not None
    with zstandard.ZstdDecompressor().stream_reader(
        io.BytesIO(dump.files.vmcore.read_bytes()), read_across_frames=False
    ) as reader:
        assert reader.read() == samples.CRASH.vmcore


@pytest.mark.parametrize("name", NAMES)
def test_tshark_reads_the_sample(name: str) -> None:
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed")
    run = subprocess.run(
        [tshark, "-r", str(PCAPS / name)], capture_output=True, text=True, check=False
    )
    cut_short = "appears to have been cut short in the middle of a packet" in run.stderr
    assert cut_short == (name == "cut-short.pcap")
    assert run.returncode == 0 or cut_short, run.stderr
    assert run.stdout


@pytest.mark.parametrize("name", NAMES)
def test_scapy_dissects_the_sample(name: str) -> None:
    packets = rdpcap(str(PCAPS / name))
    assert all(packet.show(dump=True) and packet.summary() for packet in packets)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"hostile.pcap", "cut-short.pcap"}))
def test_a_session_shows_as_many_messages_as_recovery_counts(name: str, tmp_path: Path) -> None:
    """Not where there are some that recovery leaves out: nobody would answer them, or the
    capture ends in them."""
    packets = sniff(offline=str(PCAPS / name), session=NetdumpSession, quiet=True)
    dumps = recover([str(PCAPS / name)], tmp_path).dumps
    assert sum(Netdump in packet for packet in packets) == sum(
        dump.transfer.messages for dump in dumps
    )


@pytest.mark.parametrize("name", REAL)
def test_real_captures_hold_what_the_readme_says(name: str, tmp_path: Path) -> None:
    checksum, missing = REAL[name]
    (dump,) = recover([str(PCAPS / name)], tmp_path).dumps
    assert dump.files.vmcore is not None
    assert sha256(dump.files.vmcore.read_bytes()).hexdigest() == checksum
    assert sum(end - start for start, end in dump.missing) == missing
    assert dump.complete == (missing == 0)
    readme = (PCAPS / "README.md").read_text()
    assert name in readme
    assert checksum in readme
