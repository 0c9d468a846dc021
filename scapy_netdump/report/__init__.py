# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures and a page of how dumps went: what ``netdump report`` shows.

Numbers are collected while a capture is read; they are drawn when all is read.
"""
