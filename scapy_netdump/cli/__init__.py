# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``netdump``: what each of its commands is called with, does and prints."""
