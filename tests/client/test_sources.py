# SPDX-License-Identifier: GPL-2.0-or-later
"""What `send_dump` sends: paths, bytes and open files, to servers at any port."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from helpers.places import PCAPS
from helpers.receiving import PATIENCE
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import (
    Preparation,
    Sending,
    ServeOptions,
    Server,
    StoreError,
    UnfitError,
    UsageError,
    send_dump,
)
from scapy_netdump.client.prepare import prepared
from scapy_netdump.dump.content import Content, FileObjectContent, Held
from scapy_netdump.kerneldump.header import DumpHeader

SERVER, CLIENT = "127.74.0.1", "127.74.1.1"
DATA = Random(2).randbytes(300_001)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server at a port that is not the protocol's."""
    (tmp_path / "crash").mkdir()
    with Server(tmp_path / "crash", address=SERVER, port=0) as started:
        assert started.address[1] != 20023
        yield started


def received(server: Server) -> bytes:
    ended = server.wait(CLIENT, PATIENCE)
    assert ended.reason == "success"
    return Path(ended.files["vmcore"] or "").read_bytes()


def every_second_byte(data: bytes) -> memoryview:
    doubled = bytearray(2 * len(data))
    doubled[::2] = data
    return memoryview(doubled)[::2]


def in_a_file(data: bytes) -> Any:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its last reference
    file.write(data)
    return file


def in_gzip(data: bytes) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(data, 1)))


IN_MEMORY: list[Callable[[bytes], Any]] = [bytes, bytearray, memoryview, every_second_byte]
FILES: list[Callable[[bytes], Any]] = [io.BytesIO, in_a_file, in_gzip]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_sent(server: Server, tmp_path: Path, kind: type) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(DATA)
    assert send_dump(kind(path), server.address, client=CLIENT).finished
    assert received(server) == DATA


@pytest.mark.parametrize("made", [*IN_MEMORY, *FILES])
def test_bytes_and_files_are_sent_whole(server: Server, made: Callable[[bytes], Any]) -> None:
    result = send_dump(made(DATA), server.address, client=CLIENT)
    assert result.bytes == result.acknowledged == len(DATA)
    assert received(server) == DATA


def test_a_file_is_sent_from_its_start_and_stays_open(server: Server) -> None:
    file = io.BytesIO(DATA)
    file.seek(1000)
    send_dump(file, server.address, client=CLIENT)
    assert received(server) == DATA
    assert not file.closed


@pytest.mark.parametrize("kernel", [False, True])
def test_the_servers_port_may_be_given_in_each_way(server: Server, kernel: bool) -> None:
    address, port = server.address
    sending = Sending(kernel=kernel)
    send_dump(b"as a pair", (address, port), client=CLIENT, sending=sending)
    assert received(server) == b"as a pair"
    send_dump(b"by itself", address, port=port, client=CLIENT, sending=sending)
    assert received(server) == b"by itself"


def test_what_is_made_of_a_dump_is_made_of_bytes_too(server: Server) -> None:
    preparation = Preparation(compression="gzip", panicstring="rehearsal", dumptime=1)
    send_dump(DATA[:1000] * 100, server.address, client=CLIENT, preparation=preparation)
    ended = server.wait(CLIENT, PATIENCE)
    assert gzip.decompress(Path(ended.files["vmcore"] or "").read_bytes()) == DATA[:1000] * 100
    header = DumpHeader.unpack(Path(ended.files["kdh"] or "").read_bytes())
    assert (header.panicstring, header.compression) == ("rehearsal", 1)


def test_bytes_that_are_compressed_are_sent_as_such() -> None:
    with prepared(Held(gzip.compress(DATA))) as dump:
        assert dump.header.compression == 1


def test_any_local_port_does_where_the_server_answers_it(tmp_path: Path) -> None:
    options = ServeOptions(ack_port=None)
    with Server(tmp_path, address=SERVER, port=0, options=options) as server:
        send_dump(DATA, server.address, client=CLIENT, client_port=0)
        assert received(server) == DATA


# What cannot be sent


@pytest.mark.parametrize(
    ("server", "port", "told"),
    [
        (SERVER, 0, "there is no port 0 to send to"),
        (SERVER, 65_536, "there is no port 65536"),
        ((SERVER, -1), None, "there is no port -1"),
        ((SERVER, 20_023), 20_023, "given twice: 20023 and 20023"),
    ],
)
def test_a_port_that_is_none_is_told(server: Any, port: int | None, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        send_dump(b"data", server, port=port)


def test_a_local_port_that_is_none_is_told() -> None:
    with pytest.raises(UsageError, match="there is no port 70000 to send from"):
        send_dump(b"data", SERVER, client_port=70_000)


@pytest.mark.parametrize("name", ["two-clients.pcap", "two-interfaces.pcapng"])
def test_the_bytes_of_a_capture_are_not_sent_as_a_vmcore(name: str) -> None:
    with pytest.raises(UsageError, match="a capture, which is given by its path"):
        send_dump((PCAPS / name).read_bytes(), SERVER)


def test_there_is_no_number_to_choose_by_in_bytes() -> None:
    with pytest.raises(UsageError, match="number"):
        send_dump(b"data", SERVER, preparation=Preparation(number=1))


def test_content_with_holes_is_not_sent() -> None:
    with pytest.raises(
        UnfitError,
        match="the dump: Dump incomplete: 40 of 100 bytes missing in 2 ranges; it cannot be sent",
    ):
        prepared(Held(b"data", 100, [(10, 20), (30, 60)]))


def test_text_pipes_and_closed_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(DATA)
    with path.open() as text, pytest.raises(UsageError, match=f"{path}: opened as text"):
        send_dump(text, SERVER)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="closed file"):
        send_dump(text.buffer, SERVER)
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe, pytest.raises(UsageError, match="the file: not a file"):
        send_dump(pipe, SERVER)


def test_a_file_that_becomes_shorter_or_is_closed_is_told(tmp_path: Path) -> None:
    with (tmp_path / "vmcore").open("w+b", buffering=0) as file:
        file.write(DATA)
        content = FileObjectContent(file)
        assert content.read(0, 10) == DATA[:10]
        file.truncate(100)
        with pytest.raises(StoreError, match="became shorter while it was read"):
            content.read(50, 100)
    with pytest.raises(StoreError, match=r"cannot be read: .*closed file"):
        content.read(0, 1)


def test_a_bytearray_that_is_sent_keeps_its_size() -> None:
    data = bytearray(DATA)
    content = Held(data)
    with pytest.raises(BufferError):
        data.clear()
    assert content.read(0, len(DATA)) == DATA


@given(
    data=st.binary(max_size=200),
    reads=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250)), max_size=10),
    made=st.sampled_from([*IN_MEMORY, *FILES]),
)
def test_any_read_of_any_of_them_is_a_slice(
    data: bytes, reads: list[tuple[int, int]], made: Callable[[bytes], Any]
) -> None:
    source = made(data)
    content: Content = Held(source) if made in IN_MEMORY else FileObjectContent(source)
    assert (content.size, list(content.missing)) == (len(data), [])
    for offset, size in reads:
        assert content.read(offset, size) == data[offset : offset + size]


@pytest.mark.parametrize(
    ("file", "server", "words"),
    [
        (b"data", (SERVER,), "not a pair of an address and a port"),
        (b"data", (SERVER, 1, 2), "not a pair of an address and a port"),
        (5, SERVER, "not a file to read at any offset"),
        ("a\0b", SERVER, "null byte"),
        ("x" * 5000, SERVER, "no path: File name too long"),
        ("\ud800", SERVER, "no path: surrogates not allowed"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(file: Any, server: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        send_dump(file, server)
    assert "\n" not in str(raised.value)
