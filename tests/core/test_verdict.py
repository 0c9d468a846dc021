# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdict and the last line of an info file: each says what the other does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.verdict import Kind, Verdict

reasons = st.text(st.characters(blacklist_characters="\n\r"), min_size=1, max_size=40)
verdicts = st.just(Verdict(Kind.COMPLETE)) | st.builds(
    Verdict, st.sampled_from([kind for kind in Kind if kind is not Kind.COMPLETE]), reasons
)


@given(verdicts)
def test_a_line_says_what_the_verdict_does(verdict):
    assert Verdict.from_line(str(verdict)) == verdict


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("Dump complete", Verdict(Kind.COMPLETE)),
        ("Dump incomplete: client timed out", Verdict(Kind.INCOMPLETE, "client timed out")),
        ("Dump incomplete", Verdict(Kind.INCOMPLETE)),
        ("Dump complete; dump header with a wrong parity", None),
        ("Dump complete: and more", None),
        (" Dump complete", None),
        ("  Panic String: Dump complete", None),
        ("", None),
    ],
)
def test_lines_as_they_are_found(line, verdict):
    assert Verdict.from_line(line) == verdict


@given(verdicts, reasons)
def test_a_cause_comes_first_and_makes_no_dump_worse(verdict, cause):
    told = verdict.because(cause)
    assert told.kind is verdict.kind
    assert told == verdict if verdict.complete else told.reason.startswith(cause)
    assert verdict.because("") == verdict


def test_a_dump_that_comes_in_is_incomplete_and_says_so():
    assert str(Verdict.receiving()) == "Dump incomplete: being received"
    told = Verdict.from_line("Dump incomplete: being received; at least 5 bytes are here")
    assert told == Verdict.receiving("at least 5 bytes are here")
    assert told.is_receiving
    assert not Verdict(Kind.CONTRADICTED, "being received").is_receiving
