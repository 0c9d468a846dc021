# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings for all tests."""

import os

import pytest
from hypothesis import settings

# A busy machine is no defect: examples have no time limit, the test run as a whole has.
settings.register_profile("netdump", deadline=None)
settings.load_profile("netdump")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
