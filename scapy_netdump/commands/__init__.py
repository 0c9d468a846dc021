# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands of ``netdump`` do, a module each; cli.py says what they are called with."""
