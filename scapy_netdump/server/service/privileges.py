# SPDX-License-Identifier: GPL-2.0-or-later
"""From root to an ordinary user, for good."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import NetdumpError


class PrivilegeError(NetdumpError):
    """Privileges cannot be given up as was asked."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom to become: numbers, and the text that asked for them."""

    text: str
    uid: int
    gid: int


def find_user(text: str) -> User:
    """The user that ``USER`` or ``USER:GROUP`` names, by names or numbers.

    Without a group it is the user's own. PrivilegeError if there is no such user or group, or
    if giving up root for it gives up nothing.
    """
    name, separator, group = text.partition(":")
    try:
        uid, own = _user(name)
    except (KeyError, ValueError, OverflowError):
        raise PrivilegeError(f"--user {text}: there is no user {name!r}") from None
    try:
        gid = _group(group) if separator else own
    except (KeyError, ValueError, OverflowError):
        raise PrivilegeError(f"--user {text}: there is no group {group!r}") from None
    if gid is None:
        raise PrivilegeError(f"--user {text}: user {uid} has no group; say {uid}:GROUP")
    if uid == 0:
        raise PrivilegeError(f"--user {text}: is root itself; name an ordinary user")
    return User(text, uid, gid)


def _user(name: str) -> tuple[int, int | None]:
    """A user's number and group; a number need not be in the list of users."""
    if not name.isdecimal():
        entry = pwd.getpwnam(name)
        return entry.pw_uid, entry.pw_gid
    try:
        return int(name), pwd.getpwuid(int(name)).pw_gid
    except KeyError:
        return int(name), None


def _group(name: str) -> int:
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def make_directory(path: Path, user: User) -> None:
    """Make a directory, and those above it that are not there; all of them are the user's.

    OSError if that cannot be.
    """
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        made = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with _refusals(user):
                os.fchown(made, user.uid, user.gid)
        finally:
            os.close(made)


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Do something as the user and then be root again: what is made is the user's.

    PrivilegeError if this process is not root.
    """
    _insist_on_root(user)
    group, groups = os.getegid(), os.getgroups()
    try:
        with _refusals(user):
            os.setgroups([user.gid])
            os.setegid(user.gid)
            os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


@contextmanager
def _refusals(user: User) -> Iterator[None]:
    """What the system refuses, and numbers that it does not have, as a PrivilegeError."""
    try:
        yield
    except (OSError, OverflowError) as error:
        raise PrivilegeError(f"--user {user.text}: refused by the system: {error}") from None


def _insist_on_root(user: User) -> None:
    if os.geteuid() != 0:
        raise PrivilegeError(f"--user {user.text}: only root can become another user")


def become(user: User) -> None:
    """Be ``user`` from now on, without any other group and without a way back.

    PrivilegeError if this process is not root, or if the system did not do it.
    """
    _insist_on_root(user)
    with _refusals(user):
        os.setgroups([user.gid])
        os.setgid(user.gid)
        os.setuid(user.uid)
    _verify(user)


def _verify(user: User) -> None:
    """What setuid(2) and its kin promise, looked at: a mistake here would go unnoticed."""
    took = {os.getuid(), os.geteuid()} == {user.uid} and {os.getgid(), os.getegid()} == {user.gid}
    took = took and set(os.getgroups()) <= {user.gid}
    for regain in (os.setuid, os.setgid):
        try:
            regain(0)
        except OSError:
            continue
        took = took and regain is os.setgid and user.gid == 0
    if not took:
        raise PrivilegeError(f"--user {user.text}: the system left this process its privileges")
