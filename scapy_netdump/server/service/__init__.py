# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes a program a service: privileges, confinement, notices to systemd, a handler script.

Each module stands alone; none knows netdump.
"""
