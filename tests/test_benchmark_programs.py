# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of the transfer benchmark compile without a warning, and what they send arrives.

What the benchmark says of a server or a client is only as good as they are.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SIZE = 3_000_000  # not a multiple of any payload, nor of 64 KiB

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler"
)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("programs")
    for name in ("server", "generator", "sink"):
        source = HERE / "benchmarks" / f"{name}.c"
        flags = ["-O1", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(["cc", *flags, "-o", str(directory / name), str(source)], check=True)
    return directory


def generate(programs: Path, place: Path, options: str, server: str) -> None:
    """Sends ``source`` in a directory; ends when the server has acked the FINISHED."""
    (place / "source").write_bytes(bytes(range(251)) * (SIZE // 251))
    command = [str(programs / "generator"), *options.split(), server, "source"]
    subprocess.run(
        command, cwd=place, check=True, timeout=60, stdin=subprocess.DEVNULL, capture_output=True
    )


@pytest.mark.parametrize(
    "options", ["-w 64 -c 3 -s 1", "-k", "-w 1", "-g -n 8948 -w 8"], ids=lambda text: text
)
def test_server_writes_what_the_generator_sends(
    programs: Path, tmp_path: Path, options: str
) -> None:
    server = subprocess.Popen([str(programs / "server"), "127.66.8.1"], cwd=tmp_path)
    try:
        generate(programs, tmp_path, f"{options} -a 127.66.8.2", "127.66.8.1")
    finally:
        server.kill()
        server.wait()
    source = (tmp_path / "source").read_bytes()
    received = [path.read_bytes() for path in tmp_path.glob("vmcore.*")]
    slow = 1 if "-s" in options else 0
    assert sum(content == source for content in received) == (3 if "-c" in options else 1)
    assert len(received) == sum(content == source for content in received) + slow
    assert all(source.startswith(content) for content in received)


@pytest.mark.parametrize("link", ["", "-d 1000", "-l 2"], ids=["plain", "far", "lossy"])
def test_sink_writes_what_the_generator_sends(programs: Path, tmp_path: Path, link: str) -> None:
    command = [str(programs / "sink"), *link.split(), "127.66.8.3", "received", str(SIZE)]
    sink = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        generate(programs, tmp_path, "-g -w 256 -t 20 -p 0 -a 127.66.8.4", "127.66.8.3")
        sink.terminate()
        output, _ = sink.communicate(timeout=60)
    finally:
        sink.kill()
    received = (tmp_path / "received").read_bytes()
    assert received.rstrip(b"\0") == (tmp_path / "source").read_bytes().rstrip(b"\0")
    assert ('"lost": 0,' in output) == ("-l" not in link)
