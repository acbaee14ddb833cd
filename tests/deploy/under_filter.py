#!/usr/bin/python3
"""Runs a program under a system call filter: under_filter.py unit UNIT PROGRAM…  allows what the systemd unit allows;
under_filter.py deny NAME[,NAME]… PROGRAM…  allows everything but those calls. What is not allowed fails with EPERM."""
import errno
import os
import pathlib
import re
import subprocess
import sys

import seccomp


def set_of(word):
    """The system calls of one word of SystemCallFilter=, sets opened."""
    if not word.startswith("@"):
        return {word}
    text = subprocess.run(["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True).stdout
    calls = set()
    for line in text.splitlines()[1:]:
        if (name := line.strip()) and not name.startswith("#"):
            calls |= set_of(name)
    return calls


def allowed_by(unit):
    calls = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", pathlib.Path(unit).read_text(), re.M):
        words = {call for word in line.lstrip("~").split() for call in set_of(word)}
        calls = calls - words if line.startswith("~") else calls | words
    return calls


def main():
    how, what, *program = sys.argv[1:]
    refuse = seccomp.ERRNO(errno.EPERM)
    if how == "unit":
        f, names, action = seccomp.SyscallFilter(refuse), allowed_by(what), seccomp.ALLOW
    else:
        f, names, action = seccomp.SyscallFilter(seccomp.ALLOW), what.split(","), refuse
    for name in sorted(names):
        try:
            f.add_rule(action, name)
        except (RuntimeError, ValueError, OSError):
            pass  # a call that this architecture does not have
    f.load()
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
