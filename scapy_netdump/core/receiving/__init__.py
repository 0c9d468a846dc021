# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump while a server receives it, without sockets, clocks and files."""
