# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bytes of a kernel dump mean: its header, its key, its info text.

Standard library only, and nothing here reads a clock or a file.
"""
