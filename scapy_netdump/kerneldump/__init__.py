# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bytes of a kernel dump mean: its header, its key, its info text.

Nothing here reads a clock or a file.
"""
