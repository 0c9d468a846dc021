# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of dumps that are being received: what was taken is on disk, and what is on disk is
told as it is, also after a crash, on a full disk, and beside others."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from helpers.traffic import header
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.cli.common import INCOMPLETE
from scapy_netdump.core.account import Account
from scapy_netdump.core.receiving.sinks import Sink, Sinks
from scapy_netdump.core.verdict import Verdict
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import EKCD_KEY, KDH, NETDUMP_FORMAT, VMCORE
from scapy_netdump.store.live_dumps import LiveDump, LiveDumps, Sync
from scapy_netdump.store.mapfile import parse_mapfile
from scapy_netdump.store.naming import Names, stored_dumps

CLIENT = "10.99.0.2"
PATIENCE = 30.0


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    (tmp_path / "crash").mkdir()
    return tmp_path / "crash"


@pytest.fixture
def dumps(crash: Path) -> Iterator[LiveDumps]:
    dumps = LiveDumps(crash)
    yield dumps
    dumps.close()


def names(directory: Path) -> set[str]:
    return set(os.listdir(directory))


def last_line(info: Path) -> str:
    return info.read_text().splitlines()[-1]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def store(dump: Sink, account: Account, kind: int, data: bytes, offset: int = 0) -> None:
    """What a session does: store first, know it then."""
    dump.write(kind, [data], offset)
    if kind == VMCORE:
        account.vmcore.add(offset, offset + len(data))
    elif kind == KDH:
        account.headers.take(offset, data)
    else:
        account.key.add(offset, data)


def begun(dumps: LiveDumps, client: str = CLIENT, path: bytes = b"") -> LiveDump:
    """A dump that has its number and its info file."""
    dump = dumps.begin(client, path)
    dump.update(Account(), Verdict.receiving())
    return dump


def received(dumps: Sinks, vmcore: bytes, length: int | None = None) -> tuple[Sink, Account]:
    """A dump with all of its data; its header claims that it has ``length`` bytes."""
    dump, account = dumps.begin(CLIENT, b""), Account()
    account.herald(b"")
    store(dump, account, VMCORE, vmcore)
    store(dump, account, KDH, header(len(vmcore) if length is None else length))
    account.finished = True
    return dump, account


# One dump


def test_a_dump_from_its_herald_to_its_end(dumps: LiveDumps, crash: Path) -> None:
    before = open_files()
    dump = begun(dumps)
    assert names(crash) == {f"info.{CLIENT}.0"}
    info = crash / f"info.{CLIENT}.0"
    assert dump.name == str(info)
    assert dump.note == ""
    assert last_line(info).startswith("Dump incomplete: being received; at least 0 bytes")
    account = Account()
    store(dump, account, VMCORE, b"v" * 5000)
    assert names(crash) == {info.name, f"vmcore.{CLIENT}.0.part", f"bounds.{CLIENT}"}
    store(dump, account, KDH, header(5000))
    dump.update(account, Verdict.receiving())
    assert "  Panic String: page fault" in info.read_text().splitlines()
    assert last_line(info) == (
        "Dump incomplete: being received; at least 5000 bytes of the vmcore are here"
    )
    account.finished = True
    dump.sync()
    published = dump.finish(account, account.verdict)
    assert published.vmcore == crash / f"vmcore.{CLIENT}.0"
    assert published.vmcore.read_bytes() == b"v" * 5000
    assert published.kdh == crash / f"kdh.{CLIENT}.0"
    assert published.kdh.read_bytes() == header(5000)
    assert last_line(info) == "Dump complete"
    assert os.readlink(crash / f"vmcore.{CLIENT}.last") == f"vmcore.{CLIENT}.0"
    assert dump.read(VMCORE, 4990, 5000) == b"v" * 10  # as long as it lingers
    dump.close()
    assert open_files() == before


def test_info_is_never_far_behind(dumps: LiveDumps, crash: Path) -> None:
    """From the first byte on, and without being written at each."""
    dump, piece = dumps.begin(CLIENT, b""), bytes(100_000)
    files, counts = set(), []
    for number in range(1, 201):
        dump.write(VMCORE, [piece], (number - 1) * len(piece))
        info = crash / f"info.{CLIENT}.0"
        files.add(info.stat().st_mtime_ns)
        counts.append(int(last_line(info).split()[-7]))
        assert counts[-1] <= number * len(piece)
        assert counts[-1] > number * len(piece) / 2 or number < 11
    assert counts[0] == 100_000
    assert len(set(counts)) < 9
    assert len(files) < 9


def test_a_directory_where_the_bounds_file_is_to_be_keeps_nobody_from_dumping(
    dumps: LiveDumps, crash: Path
) -> None:
    (crash / f"bounds.{CLIENT}").mkdir()
    for number in range(2):
        dump = dumps.begin(CLIENT, b"")
        dump.write(VMCORE, [b"x"], 0)
        assert (crash / f"vmcore.{CLIENT}.{number}.part").read_bytes() == b"x"


def test_all_kinds_are_on_disk_when_write_returns(dumps: LiveDumps, crash: Path) -> None:
    """Looked at by path, as another process would."""
    dump = dumps.begin(CLIENT, b"")
    for kind, name in ((VMCORE, "vmcore.{}.0.part"), (KDH, "kdh.{}.0"), (EKCD_KEY, "key.{}.0")):
        path = crash / name.format(CLIENT)
        dump.write(kind, [b"one", bytearray(b"two"), memoryview(b"three")], 7)
        assert path.read_bytes() == bytes(7) + b"onetwothree"
        assert path.stat().st_mode & 0o777 == (0o400 if kind == EKCD_KEY else 0o600)
        dump.write(kind, [b"zero"], 0)
        assert path.read_bytes() == b"zero\0\0\0onetwothree"


def test_a_key_in_several_messages_makes_the_vmcore_an_encrypted_one(
    dumps: LiveDumps, crash: Path
) -> None:
    dump, account = dumps.begin(CLIENT, b""), Account()
    for offset in (0, 1448, 2896):
        store(dump, account, EKCD_KEY, b"k" * 1448, offset)
    store(dump, account, VMCORE, b"v" * 4096)
    store(dump, account, KDH, header(4000, dumpkeysize=4096, compression=2))
    published = dump.finish(account, account.verdict)
    assert published.vmcore == crash / f"vmcore_encrypted.{CLIENT}.0.zst"
    assert published.vmcore.stat().st_size == 4096  # padding of such a one is not known as that
    assert published.key is not None
    assert published.key.read_bytes() == b"k" * 4344


def test_holes_are_mapped(dumps: LiveDumps) -> None:
    dump, account = dumps.begin(CLIENT, b""), Account()
    store(dump, account, VMCORE, b"a" * 1000)
    store(dump, account, VMCORE, b"b" * 1000, 3000)
    store(dump, account, KDH, header(5000))
    published = dump.finish(account, account.verdict.because("client timed out"))
    assert published.map is not None
    assert parse_mapfile(published.map.read_text()) == ([(1000, 3000), (4000, 5000)], 5000)
    assert published.info is not None
    assert last_line(published.info).startswith(
        "Dump incomplete: client timed out; 3000 of 5000 bytes missing"
    )


def test_without_data_nothing_is_left(dumps: LiveDumps, crash: Path) -> None:
    before = open_files()
    dumps.begin(CLIENT, b"").discard()
    for _ in range(3):
        dump = begun(dumps)
        assert dump.name.endswith(".0")
        dump.discard()
        assert names(crash) == set()
    assert open_files() == before


def test_a_message_without_bytes_makes_no_vmcore(dumps: LiveDumps, crash: Path) -> None:
    dump = dumps.begin(CLIENT, b"")
    dump.write(VMCORE, [b""], 0)
    dump.write(VMCORE, [], 0)
    published = dump.finish(Account(), Account().verdict)
    assert published.vmcore is None
    assert names(crash) == {f"info.{CLIENT}.0", f"bounds.{CLIENT}"}


def test_when_names_are_taken_nothing_is_overwritten_and_info_tells(
    dumps: LiveDumps, crash: Path
) -> None:
    before = open_files()
    dump, account = received(dumps, b"new")
    (crash / f"vmcore.{CLIENT}.0").write_bytes(b"precious")
    with pytest.raises(StoreError, match="File exists"):
        dump.finish(account, account.verdict)
    assert (crash / f"vmcore.{CLIENT}.0").read_bytes() == b"precious"
    assert (crash / f"vmcore.{CLIENT}.0.part").read_bytes() == b"new"
    assert last_line(crash / f"info.{CLIENT}.0").startswith("Dump incomplete: could not be filed:")
    dump.close()
    assert open_files() == before


# What an ack means


@pytest.mark.parametrize("sync", list(Sync))
def test_what_is_asked_for_has_reached_the_disk_before_an_ack(
    crash: Path, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdatasync", fsync)
    dumps = LiveDumps(crash, sync=sync)
    dump = dumps.begin(CLIENT, b"")
    vmcore, kdh = f"vmcore.{CLIENT}.0.part", f"kdh.{CLIENT}.0"
    for kind, name in ((VMCORE, vmcore), (KDH, kdh)):
        dump.write(kind, [b"x"], 0)
        assert synced == ([name] if sync is Sync.ALWAYS else [])
        synced.clear()
    dump.note_finished([], 1)
    assert set(synced) == (set() if sync is Sync.NONE else {vmcore, kdh})
    dumps.close()


def test_what_cannot_be_synced_is_not_acked(crash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    dumps = LiveDumps(crash, sync=Sync.ALWAYS)
    dump = dumps.begin(CLIENT, b"")
    dump.write(VMCORE, [b"x"], 0)
    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        dump.write(VMCORE, [b"x"], 1)
    with pytest.raises(StoreError, match="Input/output error"):
        dump.note_finished([], 1)
    dumps.close()


def test_an_error_at_close_costs_nothing(
    dumps: LiveDumps, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS may have one."""
    dump, _ = received(dumps, b"v" * 5000)
    dump.keep_other(VMCORE, 0, b"w")
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        dump._close()
    dump.close()


# Second versions of bytes


def messages_in(data: bytes) -> list[tuple[int, int, bytes]]:
    """Type, offset and payload of netdump messages that stand one behind the other."""
    found, position = [], 0
    while position < len(data):
        kind, _, offset, length, _ = struct.unpack_from(NETDUMP_FORMAT, data, position)
        position += struct.calcsize(NETDUMP_FORMAT)
        found.append((kind, offset, data[position : position + length]))
        position += length
    return found


def test_other_versions_of_bytes_are_kept_as_the_messages_that_they_came_in(
    dumps: LiveDumps, crash: Path
) -> None:
    dump, account = received(dumps, b"v" * 100)
    others = [(VMCORE, 7, b"w" * 50), (EKCD_KEY, 1 << 33, b""), (VMCORE, 0, b"u" * 2000)]
    for kind, offset, data in others:
        dump.keep_other(kind, offset, memoryview(data))
        path = crash / f"other.{CLIENT}.0"
        assert path.read_bytes()[-len(data) :] == data or not data
    dump.sync()
    published = dump.finish(account, account.verdict)
    assert published.other == path
    assert path.stat().st_mode & 0o777 == 0o600
    assert messages_in(path.read_bytes()) == others
    assert stored_dumps(crash) == {(CLIENT, 0): published}


# Writing


PIECES = st.lists(st.binary(max_size=40), max_size=12)


@given(writes=st.lists(st.tuples(st.sampled_from([VMCORE, EKCD_KEY]), PIECES, st.integers(0, 300))))
def test_the_files_are_what_an_array_of_bytes_would_be(
    writes: list[tuple[int, list[bytes], int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    crash = tmp_path_factory.mktemp("crash")
    dumps = LiveDumps(crash)
    dump = dumps.begin(CLIENT, b"")
    model = {VMCORE: bytearray(), EKCD_KEY: bytearray()}
    for kind, pieces, offset in writes:
        data, file = b"".join(pieces), model[kind]
        dump.write(kind, [memoryview(piece) for piece in pieces], offset)
        if data:
            file.extend(bytes(max(0, offset + len(data) - len(file))))
            file[offset : offset + len(data)] = data
        end = len(file) + 10
        assert dump.read(kind, 3, end) == bytes(file[3:]).ljust(end - 3, b"\0")
    for kind, name in ((VMCORE, "vmcore.{}.0.part"), (EKCD_KEY, "key.{}.0")):
        path = crash / name.format(CLIENT)
        assert (path.read_bytes() if path.exists() else b"") == model[kind]
    dump.finish(Account(), Account().verdict)
    dumps.close()


def test_more_pieces_than_the_system_takes_at_once(dumps: LiveDumps, crash: Path) -> None:
    data = Random(0).randbytes(9000)
    dump = dumps.begin(CLIENT, b"")
    dump.write(VMCORE, [data[start : start + 3] for start in range(0, 9000, 3)], 5)
    assert (crash / f"vmcore.{CLIENT}.0.part").read_bytes() == bytes(5) + data


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    limits=st.lists(st.integers(1, 60), min_size=1, max_size=30),
)
def test_short_writes_are_gone_on_with(
    sizes: list[int], limits: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The system may write any part of what it is asked to, down to a byte."""
    real, turn = os.pwritev, iter(limits * 2000)
    crash = tmp_path_factory.mktemp("short")
    data = Random(sum(sizes)).randbytes(sum(sizes))
    ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    pieces = [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    dumps = LiveDumps(crash)
    dump = dumps.begin(CLIENT, b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwritev", lambda d, p, o: real(d, [b"".join(p)[: next(turn)]], o))
        dump.write(VMCORE, pieces, 7)
    assert dump.read(VMCORE, 0, 7 + len(data)) == bytes(7) + data
    dump.finish(Account(), Account().verdict)
    dumps.close()


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
def test_an_offset_that_no_file_has_is_told(dumps: LiveDumps, offset: int) -> None:
    dump = dumps.begin(CLIENT, b"")
    with pytest.raises(StoreError, match=rf"\.part: cannot write at offset {offset}: \w"):
        dump.write(VMCORE, [b"x"], offset)


def test_what_a_failed_write_left_is_no_part_of_the_dump(
    dumps: LiveDumps, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it got through; none of it was acked."""
    dump, account = dumps.begin(CLIENT, b""), Account()
    store(dump, account, VMCORE, b"a" * 100)
    real = os.pwritev

    def fill(descriptor: int, pieces: list[bytes], offset: int) -> int:
        if offset > 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, [b"".join(pieces)[:30]], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fill)
        with pytest.raises(StoreError) as error:
            dump.write(VMCORE, [b"b" * 100], 100)
    part = crash / f"vmcore.{CLIENT}.0.part"
    assert str(error.value) == f"{part}: cannot write at offset 130: No space left on device"
    assert part.stat().st_size == 130
    published = dump.finish(account, account.verdict)
    assert published.vmcore is not None
    assert published.vmcore.read_bytes() == b"a" * 100


def test_a_system_that_takes_nothing_is_not_asked_for_ever(
    dumps: LiveDumps, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = dumps.begin(CLIENT, b"")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", lambda *_: 0)
        with pytest.raises(StoreError, match="offset 9: No space left"):
            dump.write(VMCORE, [b"x"], 9)


FULL = """
    import sys
    from pathlib import Path
    from scapy_netdump.core.account import Account
    from scapy_netdump.core.verdict import Kind, Verdict
    from scapy_netdump.errors import StoreError
    from scapy_netdump.formats import VMCORE
    from scapy_netdump.store.live_dumps import LiveDumps

    dump, account = LiveDumps(Path(sys.argv[1])).begin("10.99.0.2", b""), Account()
    piece, end = b"x" * 1448, 0
    try:
        while True:
            dump.write(VMCORE, [piece] * 7, end)
            end += 7 * 1448
            account.vmcore.add(0, end)
    except StoreError as error:
        print(error)
    published = dump.finish(account, Verdict(Kind.INCOMPLETE, "full"))
    print(end, published.vmcore)
"""


def fill(directory: Path, limit: int = resource.RLIM_INFINITY) -> tuple[str, int, Path]:
    """Write in another process until that fails: why, how much was taken, the vmcore."""
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), directory],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert answer.stderr == ""
    error, _, rest = answer.stdout.partition("\n")
    end, vmcore = rest.split()
    return error, int(end), Path(vmcore)


def test_a_file_that_may_not_grow_ends_where_the_last_write_did(crash: Path) -> None:
    error, end, vmcore = fill(crash, 100_000)
    part = crash / f"vmcore.{CLIENT}.0.part"
    assert error == f"{part}: cannot write at offset 100000: File too large"
    assert end == 91_224
    assert vmcore.read_bytes() == b"x" * end
    assert last_line(crash / f"info.{CLIENT}.0") == "Dump incomplete: full"


@pytest.mark.root
def test_a_full_disk_keeps_all_that_was_taken(crash: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(crash)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        error, end, vmcore = fill(crash)
        assert "cannot write at offset" in error
        assert error.endswith("No space left on device")
        assert 900_000 < end < 1 << 20
        assert vmcore.read_bytes() == b"x" * end
        assert last_line(crash / f"info.{CLIENT}.0") == "Dump incomplete: full"
    finally:
        subprocess.run(["umount", crash], check=True)


# Where the client asks for


def test_a_dump_goes_where_the_client_asks_for(dumps: LiveDumps, crash: Path) -> None:
    (crash / "lab" / "rack").mkdir(parents=True)
    dump = begun(dumps, path=b"lab/rack")
    assert dump.name == str(crash / "lab" / "rack" / f"info.{CLIENT}.0")
    assert dump.note == ""


@pytest.mark.parametrize(
    "path", [b"missing", b"/etc", b"../outside", b"file", b"link", b"x\0", b"\x1b[2J\n"]
)
def test_a_path_that_cannot_be_used_leads_to_the_default_one(crash: Path, path: bytes) -> None:
    (crash / "default").mkdir()
    (crash / "file").touch()
    (crash / "link").symlink_to("default")
    dumps = LiveDumps(crash, "default")
    before = open_files()
    dump = begun(dumps, path=path)
    assert dump.name == str(crash / "default" / f"info.{CLIENT}.0")
    assert dump.note.startswith(f"{crash}: path '")
    assert dump.note.isprintable()
    dump.discard()
    assert open_files() == before
    dumps.close()


def test_a_directory_without_a_number_left_leads_to_the_default_one(
    dumps: LiveDumps, crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better there than nowhere."""
    monkeypatch.setattr(Names, "most", 100)
    (crash / "lab").mkdir()
    for number in range(100):
        (crash / "lab" / f"info.{CLIENT}.{number}").touch()
    dump = begun(dumps, path=b"lab")
    assert Path(dump.name).parent == crash
    assert "100 dumps" in dump.note


def test_directories_are_made_if_that_was_asked_for_and_unmade_if_no_dump_came(
    tmp_path: Path,
) -> None:
    dumps = LiveDumps(tmp_path / "new", mkdir=True)
    begun(dumps, path=b"lab/rack").discard()
    assert names(tmp_path / "new") == set()
    dump = dumps.begin(CLIENT, b"lab/rack")
    dump.write(VMCORE, [b"x"], 0)
    assert (tmp_path / "new" / "lab" / "rack" / f"vmcore.{CLIENT}.0.part").exists()
    with pytest.raises(StoreError, match="cannot be a dump directory"):
        LiveDumps(tmp_path / "other")
    with pytest.raises(StoreError, match="path 'lost' is refused: No such file"):
        LiveDumps(tmp_path / "new", "lost")


@pytest.mark.parametrize(
    ("client", "name", "host"),
    [
        ("10.99.0.2", "", "10.99.0.2"),
        ("10.99.0.2", "panicky", "panicky"),
        ("10.99.0.2", "../../etc", "10.99.0.2"),
        ("2001:DB8:0::2", "", "2001:db8::2"),
        ("fe80::1%em0", "", "fe80::1%em0"),
        ("fe80::1%em0.7", "", "fe80::1%em0_7"),
        ("fe80::1%../x\n", "", "fe80::1%___x_"),
    ],
)
def test_files_are_named_by_address_or_a_safe_name(
    crash: Path, client: str, name: str, host: str
) -> None:
    dumps = LiveDumps(crash, host_of=lambda address: name)
    begun(dumps, client)
    assert names(crash) == {f"info.{host}.0"}
    dumps.close()


@pytest.mark.parametrize("client", ["", "..", "../../x", "10.0.0.1/..", "host", "%", "\n"])
def test_what_is_no_address_gets_no_files(dumps: LiveDumps, crash: Path, client: str) -> None:
    with pytest.raises(StoreError, match="not an IPv4 or IPv6 address") as error:
        dumps.begin(client, b"")
    assert str(error.value).isprintable()
    assert names(crash) == set()


# Beside others, and after them


def test_info_is_never_seen_half_written(dumps: LiveDumps, crash: Path) -> None:
    dump, account = begun(dumps), Account()
    stop, partial = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            text = (crash / f"info.{CLIENT}.0").read_text()
            if not text.startswith("Dump from") or not text.endswith("are here\n"):
                partial.append(text)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(300):
        store(dump, account, VMCORE, b"x", number)
        dump.update(account, Verdict.receiving())
    stop.set()
    thread.join()
    assert partial == []


RESERVE = """
    import sys
    from pathlib import Path
    from scapy_netdump.formats import VMCORE
    from scapy_netdump.store.live_dumps import LiveDumps

    dumps = LiveDumps(Path(sys.argv[1]))
    input()
    for _ in range(40):
        dump = dumps.begin("10.99.0.2", b"")
        dump.write(VMCORE, [sys.argv[2].encode()], 0)
        print(dump.name.rpartition(".")[2])
"""


def test_processes_that_take_numbers_at_once_get_different_ones(crash: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(RESERVE), crash, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    taken = [child.communicate(timeout=PATIENCE)[0].split() for child in children]
    assert [len(numbers) for numbers in taken] == [40, 40, 40]
    assert sorted(int(number) for numbers in taken for number in numbers) == list(range(120))
    for who, numbers in enumerate(taken):
        for number in numbers:
            assert (crash / f"vmcore.{CLIENT}.{number}.part").read_text() == str(who)


SERVER = """
    import os, sys
    from pathlib import Path
    from random import Random
    from scapy_netdump.core.account import Account
    from scapy_netdump.core.verdict import Verdict
    from scapy_netdump.formats import EKCD_KEY, KDH, VMCORE
    from scapy_netdump.store.live_dumps import LiveDumps

    random = Random(1)
    dump, account = LiveDumps(Path(sys.argv[1])).begin("10.99.0.2", b""), Account()
    dump.write(EKCD_KEY, [b"key"], 0)
    dump.write(KDH, [b"kdh"], 0)
    end = 0
    while True:
        pieces = [random.randbytes(1448) for _ in range(40)]
        dump.write(VMCORE, pieces, end)
        end += 40 * 1448
        account.vmcore.add(0, end)
        os.write(1, b"%d\\n" % end)
        if end % 10 == 0:
            dump.update(account, Verdict.receiving())
"""


def killed(crash: Path, taken: int) -> int:
    """Kill a server after it has taken that much; returns what it said it had at the end."""
    code = [sys.executable, "-c", textwrap.dedent(SERVER), str(crash)]
    with subprocess.Popen(code, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        end = 0
        while end < taken:
            end = int(child.stdout.readline())
        child.kill()
        said = child.stdout.read().split()
    assert child.returncode == -signal.SIGKILL
    return int(said[-1]) if said else end


@pytest.mark.parametrize("taken", [1, 1_000_000, 9_000_000])
def test_after_a_kill_the_disk_has_all_that_was_taken(crash: Path, taken: int) -> None:
    end = killed(crash, taken)
    part = crash / f"vmcore.{CLIENT}.0.part"
    random = Random(1)
    truth = b"".join(random.randbytes(1448) for _ in range(end // 1448))
    assert part.read_bytes()[:end] == truth
    assert (crash / f"kdh.{CLIENT}.0").read_bytes() == b"kdh"
    assert (crash / f"key.{CLIENT}.0").read_bytes() == b"key"
    assert last_line(crash / f"info.{CLIENT}.0").startswith("Dump incomplete: being received; ")
    assert not (crash / f"vmcore.{CLIENT}.0").exists()


def test_netdump_info_says_so(crash: Path) -> None:
    """Also if no server is started again."""
    killed(crash, 100_000)
    size = (crash / f"vmcore.{CLIENT}.0.part").stat().st_size
    code = [sys.executable, "-m", "scapy_netdump", "info", "--json", str(crash)]
    answer = subprocess.run(code, capture_output=True, text=True)
    (dump,) = json.loads(answer.stdout)[0]["dumps"]
    assert dump["status"] == (
        "Dump incomplete: the server ended while it received this; "
        f"{size} bytes are in vmcore.{CLIENT}.0.part, holes are not known"
    )
    assert answer.returncode == INCOMPLETE


def test_a_server_needs_no_numpy_to_store() -> None:
    code = "import sys, scapy_netdump.store.live_dumps; print('numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"False\n"


def test_the_next_server_says_so_and_goes_on_with_the_next_number(crash: Path) -> None:
    killed(crash, 100_000)
    part = crash / f"vmcore.{CLIENT}.0.part"
    content = part.read_bytes()
    told: list[str] = []
    dumps = LiveDumps(crash, tell=told.append)
    status = (
        "Dump incomplete: the server ended while it received this; "
        f"{len(content)} bytes are in {part.name}, holes are not known"
    )
    info = crash / f"info.{CLIENT}.0"
    assert told == [f"{info}: {status}"]
    assert info.read_text() == f"Dump from {CLIENT} [{CLIENT}]\n{status}\n"
    assert part.read_bytes() == content
    dump = begun(dumps)
    assert dump.name == str(crash / f"info.{CLIENT}.1")
    assert LiveDumps(crash, tell=told.append)
    assert len(told) == 1
