"""Starts the daemon of one home for a window, and tells what became of the process.

Not here: finding a daemon that runs (`link`), the same for commands (`parlerd.client.launch`). Above: `pipe`.
Invariants: the daemon outlives the window and its agent host, and keeps neither's environment nor descriptors; one that
was just started is not started again while it may still come.
"""

import posix
import sys

from mcp_server.stdio.system import make_directory, read_file

PAUSE_S = 0.5
"""Between two starts of the daemon, and for one that was started to leave a trace if it ends at once."""
STARTING_S = 10.0
"""How long a started daemon may take until it answers."""


QUIET = ("DEBUG", "INFO", "WARNING")
"""Levels of the daemon's log at which it says no error."""


class Starter:
    """Starts the daemon of one home, and knows what became of it. Moments are seconds of the caller's clock."""

    def __init__(self, home: str) -> None:
        # The home, an absolute path, and the log in it, to which the daemon's output goes.
        self._home = home
        self._log = home + "/log/parlerd.log"
        # When the daemon was started last. The first start is never too soon.
        self.started = -STARTING_S
        # The process that was started last; 0 when none was, or its id did not become known.
        self._pid = 0
        # The size of the log when the process was started: what follows that place, the process said.
        self._offset = 0
        # Why the last start was not possible; empty when it was.
        self._wrong = ""

    def start(self, now: float) -> str:
        """Start the daemon, unless one was just started and may still come. Returns why that cannot be, or ''."""
        if now - self.started < PAUSE_S or (self.is_starting(now) and self.alive()):
            return self._wrong
        self.started = now
        self._pid = 0
        self._wrong = self._prepare()
        if not self._wrong:
            try:
                self._offset = posix.stat(self._log).st_size
            except OSError:
                self._offset = 0
            self._spawn()
        return self._wrong

    def is_starting(self, now: float) -> bool:
        """Whether the daemon was started so lately that it may need that long to answer."""
        return now - self.started < STARTING_S

    def gone(self) -> bool:
        """Whether the Python that the daemon runs on was uninstalled: then neither waiting nor another window brings a
        daemon back."""
        try:
            posix.stat(sys.executable)
        except FileNotFoundError:
            return True
        except OSError:
            pass
        return False

    def alive(self) -> bool:
        """Whether the process that was started is still there."""
        if not self._pid:
            return False
        try:
            posix.kill(self._pid, 0)
        except OSError:
            return False
        try:
            # A process that ended and that nobody collected can still be signalled.
            return b") Z" not in read_file(f"/proc/{self._pid}/stat")
        except OSError:
            return True

    def last_words(self) -> str:
        """The last line that the started daemon, or the interpreter of it, left in the log and that says an error; ''
        when there is none."""
        for line in reversed(self._tail().split("\n")):
            # A logged line begins with its date, its time, its level and its logger. Every other line went to stderr,
            # where the daemon and the interpreter write only when they fail.
            words = line.strip().split(" ", 3)
            level = words[2] if len(words) == 4 else ""
            if words[0] and level not in QUIET:
                logged = level in ("ERROR", "CRITICAL")
                said = words[3].partition(": ")[2] if logged else line.strip().removeprefix("parlerd: ")
                return "".join([char if " " <= char <= "~" else "?" for char in said[:1000]])
        return ""

    def lost_the_race(self) -> bool:
        """Whether the started daemon ended because another daemon held the lock of the home."""
        return "already_running" in self._tail()

    def _tail(self) -> str:
        try:
            return read_file(self._log, self._offset).decode("utf-8", "replace")
        except OSError:
            return ""

    def _prepare(self) -> str:
        """Make the directories of the log; the daemon makes and checks the others. Returns what is wrong, or ''."""
        for path in (self._home, self._home + "/log"):
            try:
                make_directory(path)
            except OSError as error:
                return f"The home {path} cannot be made: {error.strerror}."
            try:
                found = posix.stat(path, follow_symlinks=False)
            except OSError as error:
                return f"The home {path} cannot be used: {error.strerror}."
            if found.st_mode & 0o170000 != 0o040000 or found.st_uid != posix.geteuid() or found.st_mode & 0o077:
                return f"The home {path} is not a private directory of yours (chmod 700, no symlink)."
        return ""

    def _spawn(self) -> None:
        # The daemon is a grandchild of this process and in a session of its own. Some hosts end their children and
        # what these have started; the daemon must outlive that.
        reading, writing = posix.pipe()
        child = posix.fork()
        if child == 0:
            try:
                posix.setsid()
                grandchild = posix.fork()
                if grandchild:
                    posix.write(writing, str(grandchild).encode())
                    posix._exit(0)
                self._become_daemon()
            finally:
                posix._exit(127)
        posix.close(writing)
        said = posix.read(reading, 32)
        posix.close(reading)
        posix.waitpid(child, 0)
        self._pid = int(said) if said.isdigit() else 0

    def _become_daemon(self) -> None:
        posix.umask(0o077)
        posix.chdir("/")
        flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_NOFOLLOW
        log = posix.open(self._log, flags, 0o600)
        null = posix.open("/dev/null", posix.O_RDWR)
        for target, source in ((0, null), (1, log), (2, log)):
            posix.dup2(source, target)
        posix.closerange(3, 4096)
        # The daemon becomes a child of process 1, so its own parents do not tell it that an agent host started it.
        # PARLER_STARTED_BELOW does. Source: `parlerd.paths`.
        kept = {b"PARLER_STARTED_BELOW": b"agent", b"PATH": posix.environ.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")}
        for name in (b"HOME", b"LANG"):
            if name in posix.environ:
                kept[name] = posix.environ[name]
        posix.execve(sys.executable, [sys.executable, "-I", "-m", "_parler", "parlerd", "--home", self._home], kept)
