# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps as captures show them: the protocol seen from outside, many datagrams at a time."""
