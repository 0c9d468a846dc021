# SPDX-License-Identifier: GPL-2.0-or-later
"""From captures to the files of the dumps in them."""
