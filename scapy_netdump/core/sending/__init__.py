# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump while it is sent, without sockets, clocks and files."""
