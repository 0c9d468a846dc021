# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump directory: names, numbers, files written by offset, mapfiles, links."""
