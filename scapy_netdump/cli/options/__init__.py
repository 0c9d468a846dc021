# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of each command, apart from what it does: help is there without loading that."""
