# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's transcripts and examples run as shown."""

import doctest
import re
import subprocess
import sys
from importlib import import_module

import pytest
from helpers.places import PCAPS, ROOT

sys.path.append(str(PCAPS))
README = (ROOT / "README.md").read_text()

# A Scapy shell starts with everything from scapy.all. The session runs in a process of its
# own, because loading a contrib module puts its names into builtins.
SHELL = """
import doctest, sys
from scapy.all import *
parser = doctest.DocTestParser()
test = parser.get_doctest(sys.stdin.read(), globals(), "README", "README.md", 0)
failed, attempted = doctest.DocTestRunner().run(test)
print(f"{attempted} examples, {failed} failed")
sys.exit(failed or not attempted)
"""


TRANSCRIPTS = re.findall(r"<!-- transcript -->\n```pycon\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=["capture", "server"])
def test_the_scapy_transcripts_run_as_shown(transcript):
    assert doctest.DocTestParser().get_examples(transcript)
    shell = subprocess.run(
        [sys.executable, "-c", SHELL], input=transcript, cwd=ROOT, text=True,
        capture_output=True,
    )  # fmt: skip
    assert shell.returncode == 0, shell.stdout + shell.stderr


def test_the_example_of_receiving_and_sending_runs_as_shown(tmp_path):
    pattern = r"<!-- python: receive and send -->\n```python\n(.*?)```\n\n```text\n(.*?)```"
    ((code, output),) = re.findall(pattern, README, re.DOTALL)
    (tmp_path / "vmcore.0").write_bytes(import_module("samples").CRASH.vmcore)
    (tmp_path / "crash").mkdir()
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert (run.stderr, run.stdout) == ("", output)


def test_files_that_the_readme_links_to_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_every_capture_that_the_readme_names_is_there():
    for capture in re.findall(r"pcaps/[\w.-]+\.pcap(?:ng)?(?:\.gz)?", README):
        assert (ROOT / capture).exists(), capture
