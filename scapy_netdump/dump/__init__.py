# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of a vmcore by offset: as a file has them, compressed, encrypted, and back.

Knows files, but neither sockets nor what the store calls them.
"""
