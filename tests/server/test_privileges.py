# SPDX-License-Identifier: GPL-2.0-or-later
"""Giving up root, in a process of its own each time."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest

from scapy_netdump.server.service.privileges import PrivilegeError, User, become, find_user

HEAD = """
import os, sys
from scapy_netdump.server.service.privileges import *
"""


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + code], text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_user_has_a_group_of_his_own() -> None:
    nobody = pwd.getpwnam("nobody")
    assert find_user("nobody") == User("nobody", nobody.pw_uid, nobody.pw_gid)
    assert find_user(str(nobody.pw_uid)).gid == nobody.pw_gid


def test_numbers_need_not_be_known() -> None:
    assert find_user("54321:12345") == User("54321:12345", 54321, 12345)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no-such-user", "no user 'no-such-user'"),
        ("nobody:no-such-group", "no group 'no-such-group'"),
        ("", "no user ''"),
        ("nobody:", "no group ''"),
        ("54321", "say 54321:GROUP"),
        ("root", "root itself"),
        ("0:12345", "root itself"),
    ],
)
def test_what_cannot_be_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(PrivilegeError, match=complaint):
        find_user(text)


@pytest.mark.root
def test_root_is_given_up_with_all_groups_and_for_good() -> None:
    code = """
os.setgroups([0, 1, 2])
become(find_user("54321:12345"))
print(os.getresuid(), os.getresgid(), os.getgroups())
for regain in os.setuid, os.seteuid, os.setgid, os.setegid:
    try:
        regain(0)
    except PermissionError:
        continue
    print(regain)
try:
    open("/etc/shadow")
except PermissionError:
    print("no more")
"""
    expected = "(54321, 54321, 54321) (12345, 12345, 12345) [12345]\nno more"
    assert run(code) == expected


@pytest.mark.root
def test_only_root_can() -> None:
    code = """
become(find_user("54321:12345"))
try:
    become(find_user("54322:12345"))
except PrivilegeError as error:
    print(error)
"""
    assert run(code) == "--user 54322:12345: only root can become another user"


@pytest.mark.root
@pytest.mark.parametrize("lie", ["setuid", "setgid", "setgroups"])
def test_a_system_that_only_says_so_is_noticed(lie: str) -> None:
    code = f"""
os.setgroups([0, 1])
os.{lie} = lambda *_: None
try:
    become(find_user("54321:12345"))
except PrivilegeError as error:
    print(error)
"""
    assert run(code) == "--user 54321:12345: the system left this process its privileges"


@pytest.mark.root
def test_numbers_beyond_the_systems_are_refused() -> None:
    code = """
try:
    become(find_user(f"{1 << 70}:1"))
except PrivilegeError as error:
    print("refused")
"""
    assert run(code) == "refused"


def test_without_root_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrivilegeError, match="only root"):
        become(User("x", 1, 1))


@pytest.mark.root
def test_directories_that_are_made_are_the_users_with_all_above_that_were_missing() -> None:
    code = """
import tempfile
from pathlib import Path
with tempfile.TemporaryDirectory() as place:
    below = Path(place, "a", "b", "c")
    make_directory(below, find_user("54321:12345"))
    make_directory(below, find_user("54322:12345"))  # what is there stays as it is
    for path in (below, *below.parents[:3]):
        print(path.stat().st_uid, path.stat().st_gid)
"""
    assert run(code).splitlines() == ["54321 12345"] * 3 + ["0 0"]


@pytest.mark.root
def test_what_is_made_while_acting_as_a_user_is_his_and_root_comes_back() -> None:
    code = """
import tempfile
from pathlib import Path
os.setgroups([0, 7])
user = find_user("54321:12345")
with tempfile.TemporaryDirectory() as place:
    os.chown(place, user.uid, user.gid)
    try:
        with acting_as(user):
            Path(place, "file").touch()
            Path("/etc/shadow").read_bytes()
    except PermissionError:
        print("refused")
    status = Path(place, "file").stat()
    print(status.st_uid, status.st_gid)
print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))
become(user)
"""
    expected = ["refused", "54321 12345", "(0, 0, 0) (0, 0, 0) [0, 7]"]
    assert run(code).splitlines() == expected
