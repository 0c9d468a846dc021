# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's display filters answer what it says they do."""

from __future__ import annotations

import re

import pytest
from helpers import wireshark
from helpers.places import ROOT
from helpers.wireshark import PCAPS, needs_tshark

README = (ROOT / "README.md").read_text()
LOSSY = "kernel-lossy-server-side.pcap.gz"

#: A sample for each filter, by a word of its question, and how many frames must match there.
EXPECTED = {
    "dumps are in this capture": ("two-clients.pcap", 2),
    "machine panicked": ("two-dumps.pcap", 2),
    "ended with bytes missing": (LOSSY, 1),
    "sent more than once": (LOSSY, 44),
    "longer than 10 ms": (LOSSY, None),
    "never acked": ("hostile.pcap", None),
    "broke off": ("cut-short.pcap", 1),
    "came after a hole": ("middle.pcap", 1),
    "a certain byte": ("kernel-clean.pcap.gz", 1),
    "refuse without a word": ("jumbo.pcap", None),
}


def filters() -> dict[str, str]:
    """The questions and filters of the README's table."""
    table = README.partition("<!-- filters -->")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (?!which|---)(.*?) \| `(.*)` \|$", table, re.MULTILINE)
    return {question: text.replace(r"\|", "|") for question, text in rows}


@needs_tshark
@pytest.mark.parametrize("words", EXPECTED)
def test_a_filter_answers_its_question(words: str) -> None:
    (text,) = [text for question, text in filters().items() if words in question]
    sample, wanted = EXPECTED[words]
    matched = wireshark.run("-n", "-2", "-r", PCAPS / sample, "-Y", text).splitlines()
    assert len(matched) == wanted if wanted is not None else matched


def test_there_are_ten() -> None:
    assert len(filters()) == len(EXPECTED) == 10
