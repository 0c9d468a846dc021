# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps made ready to be sent, from each kind of file, and as the kernel would send them."""

from __future__ import annotations

import gzip
import hashlib
import resource
import shutil
import sys
import zlib
from importlib import import_module
from pathlib import Path

import pytest
import zstandard
from helpers.openssl import PRIVATE_KEY, cipher, needs_openssl, openssl, public_key, unwrap
from helpers.places import PCAPS

from scapy_netdump.client.prepare import Outgoing, Preparation, prepared
from scapy_netdump.errors import NetdumpError
from scapy_netdump.kerneldump.header import DumpHeader, pack_header
from scapy_netdump.kerneldump.info import info_text, info_values
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.kerneldump.minidump import minidump_architecture
from scapy_netdump.recovery.recoverer import recover

sys.path.append(str(PCAPS))
CRASH = import_module("samples").CRASH
VMCORE = CRASH.vmcore


def all_of(dump: Outgoing, step: int = 1448 * 45) -> bytes:
    data = b""
    while piece := dump.read(len(data), step):
        data += piece
    assert len(data) == dump.size
    return data


def opened(path: Path, **wanted: object) -> tuple[bytes, DumpHeader, bytes]:
    """What goes into VMCORE messages, the header, and the key blob."""
    with prepared(str(path), Preparation(**wanted)) as dump:
        assert dump.header.valid
        assert "\n" not in dump.describe()
        assert dump.compressed == (dump.header.compression != 0)
        assert dump.encrypted == (dump.header.dumpkeysize > 0)
        return all_of(dump), dump.header, dump.key


@pytest.fixture
def vmcore(tmp_path: Path) -> Path:
    path = tmp_path / "core"
    path.write_bytes(VMCORE)
    return path


def test_a_vmcore_without_anything_beside_it_gets_a_header(vmcore: Path) -> None:
    data, header, key = opened(
        vmcore, hostname="h", versionstring="FreeBSD 15", panicstring="p", dumptime=7
    )
    assert (data, key) == (VMCORE, b"")
    assert header.as_dict() == {
        "magic": "FreeBSD Kernel Dump",
        "architecture": "amd64",  # as the minidump says
        "version": 4,
        "architectureversion": 2,
        "dumplength": len(VMCORE),
        "dumptime": 7,
        "dumpkeysize": 0,
        "blocksize": 4096,
        "hostname": "h",
        "versionstring": "FreeBSD 15\n",
        "panicstring": "p",
        "compression": 0,
        "dumpextent": len(VMCORE),
        "parity": header.parity,
    }


def test_any_bytes_are_a_vmcore_of_unknown_architecture(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(b"odd")
    data, header, _ = opened(path)
    assert data == b"odd"
    assert (header.dumplength, header.architecture) == (3, "unknown")
    assert header.hostname
    assert opened(path, architecture="riscv64")[1].architecture == "riscv64"


@pytest.mark.parametrize(
    ("magic", "architecture"),
    [
        (b"minidump FreeBSD/arm64\0\0", "aarch64"),
        (b"minidump FreeBSD/powerpc64\0", "powerpc64"),
        (b"minidump FreeBSD/arm\0\0\0\0", "armv7"),
        (b"minidump FreeBSD/vax\0\0\0\0", None),
        (b"", None),
    ],
)
def test_minidumps_tell_their_architecture(magic: bytes, architecture: str | None) -> None:
    assert minidump_architecture(magic + bytes(40)) == architecture


# ---------------------------------------------------------------- compression, encryption


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compression_pads_to_the_block_and_says_the_true_length(
    vmcore: Path, compression: str
) -> None:
    data, header, _ = opened(vmcore, compression=compression, level=1)
    assert header.compression_name == compression
    assert header.dumpextent == len(VMCORE)  # as the kernel has it
    assert len(data) % 4096 == 0
    assert 0 < len(data) - header.dumplength < 4096
    assert not any(data[header.dumplength :])
    assert unpacked(data[: header.dumplength], compression) == VMCORE


def unpacked(data: bytes, compression: str) -> bytes:
    """Data that must be one gzip member, or one zstd frame with a checksum, and no more."""
    if compression == "gzip":
        member = zlib.decompressobj(31)
        plain = member.decompress(data)
        assert member.eof
        assert not member.unused_data
        return plain
    frame = zstandard.get_frame_parameters(data)
    assert frame.has_checksum
    assert frame.content_size == zstandard.CONTENTSIZE_UNKNOWN
    one = zstandard.ZstdDecompressor().decompressobj()
    plain = one.decompress(data)
    assert one.eof
    assert not one.unused_data
    return plain


@needs_openssl
@pytest.mark.parametrize("name", ["aes-256-cbc", "chacha20"])
def test_an_encrypted_dump_is_what_openssl_decrypts(vmcore: Path, name: str) -> None:
    data, header, blob = opened(vmcore, public_key=public_key(), cipher=name)
    assert len(blob) == header.dumpkeysize == 4096
    key = DumpKey.unpack(blob)
    assert key.encryption_name == name
    one_time_key = unwrap(key.encryptedkey)
    assert len(one_time_key) == 64
    assert cipher(data, key, one_time_key, "-d") == VMCORE
    assert key.pack(4096) == blob


@needs_openssl
def test_compression_comes_before_encryption_which_takes_the_padding_too(vmcore: Path) -> None:
    data, header, blob = opened(vmcore, public_key=public_key(), compression="zstd")
    key = DumpKey.unpack(blob)
    compressed = cipher(data, key, unwrap(key.encryptedkey), "-d")
    assert len(compressed) % 4096 == 0
    assert not any(compressed[header.dumplength :])
    assert unpacked(compressed[: header.dumplength], "zstd") == VMCORE


@needs_openssl
def test_keys_come_of_the_callers_randomness(vmcore: Path) -> None:
    given = []

    def random(size: int) -> bytes:
        given.append(hashlib.shake_128(bytes(len(given) + 1)).digest(size))
        return given[-1]

    _, _, blob = opened(vmcore, public_key=public_key(), random=random)
    key = DumpKey.unpack(blob)
    assert given == [unwrap(key.encryptedkey), key.iv]
    first, second = (opened(vmcore, public_key=public_key())[2] for _ in range(2))
    assert DumpKey.unpack(first).iv != DumpKey.unpack(second).iv


@needs_openssl
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"cipher": "aes-256-cbc", "compression": "gzip"}, "cannot be combined with compression"),
        ({"cipher": "rot13"}, "rot13: not a cipher"),
        ({"compression": "lzma"}, "lzma: not a compression"),
        ({"compression": "gzip", "level": 0}, "levels 1 to 9, not 0"),
        ({"compression": "zstd", "level": 23}, "levels 1 to 22, not 23"),
        ({"public_key": PRIVATE_KEY}, "no RSA public key"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    vmcore: Path, wanted: dict[str, object], message: str
) -> None:
    with pytest.raises(NetdumpError, match=message) as caught:
        prepared(str(vmcore), Preparation(**{"public_key": public_key(), **wanted}))
    assert "\n" not in str(caught.value)


@needs_openssl
def test_aes_takes_whole_blocks_only(tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(bytes(17))
    with pytest.raises(NetdumpError, match="17 bytes are no multiple of 16"):
        opened(path, public_key=public_key(), cipher="aes-256-cbc")


@needs_openssl
def test_too_small_a_key_is_refused(vmcore: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.pem"
    openssl("genrsa", "-out", str(tmp_path / "private.pem"), "512")
    openssl("rsa", "-in", str(tmp_path / "private.pem"), "-pubout", "-out", str(path))
    with pytest.raises(NetdumpError, match=r"small\.pem"):
        opened(vmcore, public_key=path)


def test_temporary_files_have_no_names_and_go(
    vmcore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    capture = str(PCAPS / "two-dumps.pcap")

    def open_there() -> list[str]:
        files = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
        return [str(path) for path in files if temporary in path.parents]

    with prepared(str(vmcore), Preparation(compression="gzip")) as outgoing:
        assert len(open_there()) == 1
    del outgoing
    assert open_there() == []
    with prepared(capture, Preparation(number=1)):
        assert len(open_there()) == 1
    assert open_there() == []
    with pytest.raises(NetdumpError):
        prepared(capture)
    assert open_there() == list(temporary.iterdir()) == []


# ---------------------------------------------------------------- entries of a dump directory


def test_an_entry_is_sent_as_it_is(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "kernel-encrypted-chacha20.pcap.gz")], tmp_path).dumps
    data, header, key = opened(dump.files.vmcore)
    assert data == dump.files.vmcore.read_bytes()
    assert key == dump.files.key.read_bytes()
    assert header == dump.kdh
    with prepared(str(dump.files.vmcore)) as outgoing:
        assert outgoing.kdh == dump.files.kdh.read_bytes()


def test_a_link_to_an_entry_is_the_entry(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "vlan.pcap")], tmp_path).dumps
    assert opened(tmp_path / "vmcore.192.0.2.2.last")[1] == dump.kdh


def test_a_compressed_entry_is_padded_again(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "zstd.pcap")], tmp_path).dumps
    data, header, _ = opened(dump.files.vmcore)
    stored = dump.files.vmcore.read_bytes()
    assert header.dumplength == len(stored)
    assert data == stored + bytes(-len(stored) % 4096)


def test_strings_that_are_given_replace_those_of_an_entry(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "vlan.pcap")], tmp_path).dumps
    _, header, _ = opened(dump.files.vmcore, panicstring="rehearsal")
    assert (header.panicstring, header.hostname) == ("rehearsal", "crash.example.org")


@pytest.mark.parametrize("form", ["ours", "netdumpd"])
def test_without_a_raw_header_the_info_file_tells(tmp_path: Path, form: str) -> None:
    (dump,) = recover([str(PCAPS / "vlan.pcap")], tmp_path).dumps
    dump.files.kdh.unlink()
    if form == "netdumpd":  # which does not escape line breaks
        dump.files.info.write_text(dump.files.info.read_text().replace("\\n", "\n"))
    _, header, _ = opened(dump.files.vmcore, dumptime=1)
    names = ("architecture", "hostname", "versionstring", "panicstring", "dumptime")
    assert [getattr(header, name) for name in names] == [getattr(dump.kdh, n) for n in names]


def test_info_text_is_read_back() -> None:
    header = DumpHeader.unpack(pack_header(hostname="a: b", versionstring="v\n    w\n"))
    values = info_values(info_text("h", "192.0.2.1", header, "Dump complete"))
    assert values["Hostname"] == "a: b"
    assert values["Version String"] == "v\n    w"
    assert values["Header Parity Check"] == "Pass"


def test_a_compressed_file_without_header_is_known_by_its_magic(tmp_path: Path) -> None:
    path = tmp_path / "vmcore.0.gz"
    path.write_bytes(gzip.compress(VMCORE))
    data, header, _ = opened(path)
    assert header.compression_name == "gzip"
    assert header.dumplength == path.stat().st_size
    assert len(data) % 4096 == 0
    with pytest.raises(NetdumpError, match="compressed already"):
        opened(path, compression="zstd")


@needs_openssl
def test_what_is_encrypted_is_not_encrypted_or_compressed_again(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "kernel-encrypted-chacha20.pcap.gz")], tmp_path).dumps
    with pytest.raises(NetdumpError, match="encrypted already"):
        opened(dump.files.vmcore, compression="zstd")
    with pytest.raises(NetdumpError, match="encrypted already"):
        opened(dump.files.vmcore, public_key=public_key())


def test_an_entry_that_lacks_bytes_is_refused_with_how_many(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "kernel-lossy-server-side.pcap.gz")], tmp_path).dumps
    with pytest.raises(NetdumpError, match="33304 of 3145728 bytes missing in 23 ranges"):
        opened(dump.files.vmcore)
    dump.files.map.unlink()
    with pytest.raises(NetdumpError, match="Dump incomplete: 33304 of 3145728"):
        opened(dump.files.vmcore)


def test_an_entry_that_does_not_fit_its_header_is_refused(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "vlan.pcap")], tmp_path).dumps
    with dump.files.vmcore.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(NetdumpError, match=f"{len(VMCORE) - 1000} of {len(VMCORE)} bytes missing"):
        opened(dump.files.vmcore)
    with dump.files.kdh.open("r+b") as file:
        file.write(b"f")
    with pytest.raises(NetdumpError, match=r"dump header with a wrong magic; .*it cannot be sent"):
        opened(dump.files.vmcore)


# ---------------------------------------------------------------- captures


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
def test_the_dump_in_a_capture_is_sent(tmp_path: Path, form: str) -> None:
    path = tmp_path / "capture"
    data = (PCAPS / "vlan.pcap").read_bytes()
    compressors = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}
    path.write_bytes(compressors[form](data))
    data, header, _ = opened(path)
    assert data == VMCORE
    assert header.hostname == "crash.example.org"


def test_one_of_several_dumps_is_chosen_by_its_number() -> None:
    path = PCAPS / "two-dumps.pcap"
    assert opened(path, number=1)[1].panicstring == "page fault"
    assert opened(path, number=2)[1].panicstring == "double fault"
    with pytest.raises(NetdumpError, match=r"2 dumps; choose one .*1: 192\.0\.2\.2 crash"):
        opened(path)
    for number in (0, 3):
        with pytest.raises(NetdumpError, match=f"no dump {number}"):
            opened(path, number=number)


def test_a_capture_without_a_header_gets_one() -> None:
    data, header, _ = opened(PCAPS / "no-kdh.pcap", hostname="lab")
    assert data == VMCORE
    assert (header.hostname, header.architecture) == ("lab", "amd64")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kernel-lossy-server-side.pcap.gz", "33304 of 3145728 bytes missing in 23 ranges"),
        ("cut-short.pcap", "its minidump does not end; it cannot be sent"),
        (".", "a directory"),
        ("none", "No such file"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(NetdumpError, match=message) as caught:
        prepared(str(PCAPS / name))
    assert "\n" not in str(caught.value)


def test_a_capture_of_something_else_holds_no_dump(tmp_path: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes((PCAPS / "vlan.pcap").read_bytes()[:24])
    with pytest.raises(NetdumpError, match="without a dump"):
        opened(path)


def test_a_number_needs_a_capture(vmcore: Path) -> None:
    with pytest.raises(NetdumpError, match="not a capture"):
        opened(vmcore, number=1)


def test_progress_of_compression_is_told(vmcore: Path) -> None:
    told = []
    with prepared(
        str(vmcore), Preparation(compression="gzip"), lambda *values: told.append(values)
    ):
        assert told[-1] == ("compressing with gzip", len(VMCORE), len(VMCORE))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_no_room_for_the_compressed_dump_is_said(vmcore: Path, compression: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(NetdumpError, match="TMPDIR says where"):
            opened(vmcore, compression=compression)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_moving_an_entry_does_not_need_its_directory_to_be_writable(tmp_path: Path) -> None:
    (dump,) = recover([str(PCAPS / "vlan.pcap")], tmp_path / "dumps").dumps
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "dumps", copy)
    copy.chmod(0o500)
    before = sorted(path.name for path in copy.iterdir())
    assert opened(copy / dump.files.vmcore.name)[0] == VMCORE
    assert sorted(path.name for path in copy.iterdir()) == before
