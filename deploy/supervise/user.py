"""The user that the processes run as when root starts the cluster: what listens to strangers should not be root."""
import os
import pwd
import resource
import shutil
import subprocess

from plan import Refused

NAME = "jackdaw"


LOCKED_BYTES = 3 << 19  # what the rings of one process lock, for which root alone has no limit


def allow_locked():
    """Raises the limit of locked memory as far as it goes (our processes inherit it); bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return 1 << 40 if hard == resource.RLIM_INFINITY else hard


class User:
    def __init__(self, entry):
        self.name, self.uid, self.gid = entry.pw_name, entry.pw_uid, entry.pw_gid

    def cannot(self, needs):
        """The first of (path, mode) that it cannot reach, or None. Asked by a child that has become that user."""
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)
            bad = next((str(path) for path, mode in needs if not os.access(path, mode)), "")
            os.write(write_end, bad.encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end) as f:
            bad = f.read()
        os.waitpid(child, 0)
        return bad or None


def give(directory, uid, gid):
    """Gives somebody everything below a directory; links are not followed."""
    for parent, directories, files in os.walk(directory):
        for path in [parent] + [os.path.join(parent, name) for name in directories + files]:
            os.chown(path, uid, gid, follow_symlinks=False)


def find(name):
    """That user; ours is made when it does not exist."""
    try:
        return User(pwd.getpwnam(name))
    except KeyError:
        pass
    if name != NAME or not shutil.which("useradd"):
        raise Refused(f"there is no user {name}; make one (useradd --system {name}), or say --user root")
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    done = subprocess.run(command + ["--shell", "/usr/sbin/nologin", name], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(f"the user {name} could not be made: {done.stderr.strip()}; make one, or say --user root")
    return User(pwd.getpwnam(name))


def choose(plan, wanted):
    """(user or None, what to tell). None: the processes run as whoever has started us."""
    if os.geteuid() != 0:
        if wanted not in (None, "root"):
            raise Refused("--user is for root")
        return None, None
    if wanted == "root":
        return None, "the processes run as root"
    needed = LOCKED_BYTES * len(plan.specs)
    if not wanted and allow_locked() < needed:
        return None, f"the processes run as root, since others may lock {allow_locked() >> 20} MiB here (ulimit -l) and {needed >> 20} are needed"
    user = find(wanted or NAME)
    give(plan.dir, user.uid, user.gid)
    needs = [(plan.dir, os.R_OK | os.W_OK | os.X_OK), (plan.conf_file, os.R_OK)]
    needs += [(path, os.X_OK) for path in sorted(plan.bin.iterdir())]
    needs += [(path, os.R_OK) for path in sorted(plan.tls.glob("*.key"))]
    bad = user.cannot(needs)
    if bad is None:
        return user, f"the processes run as {user.name} (see --user)"
    if wanted:
        raise Refused(f"{user.name} cannot reach {bad}: open the directories above it, or choose another --dir or --user")
    give(plan.dir, 0, 0)
    return None, f"the processes run as root, since {user.name} cannot reach {bad}; a --dir and a checkout that others may enter change that"
