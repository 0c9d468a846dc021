# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump server: its loop, and what belongs to it as a program."""
