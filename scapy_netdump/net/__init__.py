# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets and frames on the network. Knows nothing of files; the core knows nothing of it."""
