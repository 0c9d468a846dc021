# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two sightings are one dump: what each piece of evidence is worth."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.traffic import header
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.identity import (
    LONG_SILENCE,
    LONGEST_PAUSE,
    MIN_AGREEING,
    REBOOT_TIME,
    RESEND_WINDOW,
    Evidence,
    Way,
    judge,
)

FIRST, SECOND = header(5000, panicstring=b"first"), header(5000, panicstring=b"second")
PACKED = header(5000, compression=2)
ENORMOUS = header(5000, compression=2, blocksize=1 << 30)  # forged: no block is so large
SAME_WAY = Evidence(way=Way.SAME, apart=0.0)


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Evidence(headers=(FIRST, SECOND)), "panicstring is first first, second second"),
        (Evidence(headers=(FIRST, FIRST), keys=(b"abc", b"abd")), "its key differs"),
        (Evidence(headers=(FIRST, FIRST), agreeing=10, differing=11), "11 bytes of it differ"),
        (replace(SAME_WAY, agreeing=10, differing=11), "11 bytes of it differ, 10 agree"),
        (replace(SAME_WAY, finished=True, begins_again=True), "when this one was finished"),
        (replace(SAME_WAY, finished=True, heralded=True), "when this one was finished"),
        (replace(SAME_WAY, apart=LONGEST_PAUSE + 1), "longer than a server waits"),
        (replace(SAME_WAY, apart=REBOOT_TIME + 1, begins_again=True), "time enough to boot"),
        (replace(SAME_WAY, apart=REBOOT_TIME + 1, heralded=True), "time enough to boot"),
        (
            replace(SAME_WAY, heralded=True, begins_again=True, sent=RESEND_WINDOW + 1),
            "it began again after",
        ),
        (Evidence(agreeing=MIN_AGREEING, differing=1), "1 byte of it differ"),
        (replace(SAME_WAY, otherwise=2), "2 messages of it came again with other bytes"),
        (replace(SAME_WAY, misplaced=2), "2 of its numbers stand for other places"),
        (replace(SAME_WAY, apart=3.0, begins_again=True), "again after a silence of 3 s"),
        (
            replace(SAME_WAY, apart=3.0, begins_again=True, heralded=True, agreeing=9),
            "again after a silence of 3 s",
        ),
        (Evidence(told=({"Hostname": "a"}, {"Hostname": "b"})), "Hostname is a first, b second"),
        (Evidence(headers=(FIRST, None), ends=(0, 5001)), "5001 bytes, where the header tells"),
        (Evidence(headers=(PACKED, None), ends=(0, 9096)), "9096 bytes, where the header tells"),
        (Evidence(headers=(ENORMOUS, None), ends=(0, 70536)), "70536 bytes, where the header"),
        (replace(SAME_WAY, apart=601.0), "601 s lie between"),
        (replace(SAME_WAY, begins_again=True, sent=1_100_000), "again after 1100000 bytes"),
    ],
)
def test_what_makes_another_dump(evidence, reason):
    judgement = judge(evidence)
    assert judgement.one is False
    assert judgement.reason.startswith("another dump: ")
    assert reason in judgement.reason


@pytest.mark.parametrize(
    "evidence",
    [
        SAME_WAY,
        replace(SAME_WAY, agreeing=10, differing=10),  # a damaged copy
        replace(SAME_WAY, finished=True),  # a late copy
        replace(SAME_WAY, begins_again=True, agreeing=1448),  # its first chunk again
        replace(SAME_WAY, apart=LONGEST_PAUSE),
        replace(SAME_WAY, apart=REBOOT_TIME, begins_again=True, agreeing=10),
        replace(SAME_WAY, apart=LONG_SILENCE, begins_again=True, heralded=True),
        replace(SAME_WAY, otherwise=1, misplaced=1),
        replace(SAME_WAY, otherwise=2, one_clock=False),
        replace(SAME_WAY, finished=True, begins_again=True, agreeing=512, one_clock=False),
        Evidence(told=({"Hostname": "a"}, {"Hostname": "a"}), agreeing=MIN_AGREEING),
        Evidence(headers=(FIRST, None), ends=(0, 5000), agreeing=MIN_AGREEING),
        Evidence(headers=(PACKED, None), ends=(0, 9095), agreeing=MIN_AGREEING),
        Evidence(headers=(ENORMOUS, None), ends=(0, 70535), agreeing=MIN_AGREEING),
        replace(SAME_WAY, begins_again=True, sent=1_000_000),
        replace(SAME_WAY, apart=599.0),
        replace(SAME_WAY, heralded=True, begins_again=True, sent=RESEND_WINDOW),
        replace(SAME_WAY, heralded=True, sent=RESEND_WINDOW + 1),
        Evidence(headers=(FIRST, FIRST), apart=1e9, way=Way.OTHER),
        Evidence(agreeing=MIN_AGREEING),
        Evidence(keys=(b"abc", b"abcdef"), agreeing=MIN_AGREEING),
    ],
)
def test_what_is_one_dump(evidence):
    assert judge(evidence).one is True


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence(),
        Evidence(agreeing=MIN_AGREEING - 1),
        Evidence(headers=(FIRST, None), agreeing=MIN_AGREEING - 1),
        Evidence(way=Way.OTHER, agreeing=10 * MIN_AGREEING),
    ],
)
def test_what_does_not_tell(evidence):
    assert judge(evidence).one is None


anything = st.builds(
    Evidence,
    headers=st.tuples(*[st.sampled_from([None, FIRST, SECOND])] * 2),
    keys=st.tuples(*[st.sampled_from([b"", b"k", b"other"])] * 2),
    agreeing=st.sampled_from([0, 10, 511, 512]),
    differing=st.sampled_from([0, 1, 10, 600]),
    apart=st.sampled_from([None, 0.0, 60.0, 61.0, 601.0]),
    finished=st.booleans(),
    heralded=st.booleans(),
    begins_again=st.booleans(),
    sent=st.sampled_from([0, RESEND_WINDOW + 1]),
    way=st.sampled_from(list(Way)),
)


@given(anything)
def test_more_differing_bytes_never_make_two_sightings_one(evidence):
    if judge(evidence).one is not True:
        assert judge(replace(evidence, differing=evidence.differing + 1000)).one is False


@given(anything)
def test_a_judgement_says_why(evidence):
    judgement = judge(evidence)
    assert judgement.reason
    assert judgement.reason.startswith("another dump: ") == (judgement.one is False)


def test_two_heralds_of_other_words_announce_two_dumps() -> None:
    words = (1, b""), (1, b"lab")
    alike = {"agreeing": 100_000, "apart": 3.0, "one_clock": False}
    assert judge(Evidence(announced=words, **alike)).one is False
    assert judge(Evidence(announced=(words[0], words[0]), **alike)).one is True
    assert judge(Evidence(announced=(words[0], None), **alike)).one is True
