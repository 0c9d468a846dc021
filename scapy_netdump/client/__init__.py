# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending a dump: made ready, and handed to a transport."""
