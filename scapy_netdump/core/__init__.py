# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol without sockets, clocks or files.

Bytes and times go in; writes and knowledge come out. Nothing in here may import
anything that touches the outside world (tests/core/test_core_is_pure.py holds it to that),
so that a live server, a recovery from a capture and a test drive the same code.
"""
