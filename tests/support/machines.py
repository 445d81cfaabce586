"""Machines of their own on one network: each has an address and a cable to one switch, and files in common.

A machine is a network namespace of Linux, made without root in a user namespace, and the switch is a bridge in another
one. A program runs on a machine by the words in front of its command line (`Machine.words`); what it starts runs there
too. A pulled cable takes packets away without a word to either end, as a real one does. Not here: connections that are
broken loudly, stalled or slow (`wires`). Invariant: when the network ends, its namespaces end with the last process in
them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

NET: Final = "10.177.0"
"""The network's addresses begin so."""
_GATEWAY: Final = f"{NET}.254"
"""Where each machine's default route leads. The switch answers there, and passes nothing on."""
_WAITS: Final = ("sh", "-c", "echo up; exec cat")
"""A process that keeps a namespace for as long as its stdin is open."""


class Machine:
    """One machine of a network."""

    def __init__(self, network: Network, name: str, address: str) -> None:
        self.name = name
        self.address = address
        """Its address on the cable."""
        self.words: list[str] = []
        """What stands in front of the command line of a program that is to run here."""
        self._network = network

    def pull(self) -> None:
        """Pull the cable: packets get lost both ways, and nobody is told."""
        self._network.runs("ip", "link", "set", f"to-{self.name}", "down")

    def plug(self) -> None:
        """Put the cable in again."""
        self._network.runs("ip", "link", "set", f"to-{self.name}", "up")

    def gets(self, address: str) -> None:
        """The network gives this machine another address in the place of the one that it had."""
        self.runs("ip", "address", "flush", "dev", "eth0")
        self.runs("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.runs("ip", "route", "replace", "default", "via", _GATEWAY)
        self.address = address

    def has_another_interface(self, address: str) -> None:
        """This machine also has an interface that leads to no other machine, as one for containers does."""
        self.runs("ip", "link", "add", "eth1", "type", "bridge")
        self.runs("ip", "address", "add", f"{address}/24", "dev", "eth1")
        self.runs("ip", "link", "set", "eth1", "up")

    def runs(self, *command: str) -> None:
        """Run a program here to its end."""
        _run([*self.words, *command])


class Network:
    """A switch, and the machines on it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._switch = _kept(stack, ["unshare", "--user", "--map-root-user", "--net"])
        for command in (
            ("link", "set", "lo", "up"),
            ("link", "add", "switch", "type", "bridge"),
            ("address", "add", f"{_GATEWAY}/24", "dev", "switch"),
            ("link", "set", "switch", "up"),
        ):
            self.runs("ip", *command)

    def machine(self, name: str, number: int) -> Machine:
        """One more machine, whose address ends in `number`."""
        machine = Machine(self, name, f"{NET}.{number}")
        user = ["nsenter", "--target", str(self._switch), "--user", "--preserve-credentials"]
        pid = _kept(self._stack, [*user, "unshare", "--net"])
        machine.words = ["nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--net"]
        port = f"to-{name}"
        self.runs("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self.runs("ip", "link", "set", port, "master", "switch", "up")
        machine.runs("ip", "link", "set", "lo", "up")
        machine.runs("ip", "link", "set", "eth0", "up")
        machine.gets(machine.address)
        return machine

    def runs(self, *command: str) -> None:
        """Run a program on the switch to its end."""
        _run(["nsenter", "--target", str(self._switch), "--user", "--preserve-credentials", "--net", *command])


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network without machines."""
    with contextlib.ExitStack() as stack:
        yield Network(stack)


class SmallDisk:
    """A folder on a disk of a few megabytes, for programs that run by `words`. Others see the folder as it was."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, megabytes: int) -> None:
        mount = f'mount -t tmpfs -o size={megabytes}m,mode=0700 none "$0" && echo up; exec cat'
        pid = _kept(stack, ["unshare", "--user", "--map-root-user", "--mount"], "sh", "-c", mount, str(folder))
        self.words = ["nsenter", "--target", str(pid), "--user", "--preserve-credentials", "--mount"]
        """What stands in front of the command line of a program that is to see the disk."""
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Let nothing more be written."""
        subprocess.run(
            [*self.words, "dd", "if=/dev/zero", f"of={self._filler}", "bs=4k"], stderr=subprocess.DEVNULL, check=False
        )

    def free(self) -> None:
        """Let there be space again."""
        _run([*self.words, "rm", str(self._filler)])

    def reads(self, path: Path) -> str:
        """What is in a file there."""
        return subprocess.run([*self.words, "cat", str(path)], stdout=subprocess.PIPE, text=True, check=True).stdout


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A small disk at a folder that is there. Raises `subprocess.CalledProcessError` where this system gives none."""
    with contextlib.ExitStack() as stack:
        yield SmallDisk(stack, folder, megabytes)


class Mounts:
    """Mounts that nobody else sees, and that are gone with the last program among them, however the test run ends. Only
    root has such."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        pid = _kept(stack, ["unshare", "--mount"])
        self.words = ["nsenter", "--target", str(pid), "--mount"]
        """What stands in front of the command line of a program that is to see them. It begins in the root folder."""
        self._root = Path(f"/proc/{pid}/root")

    def seen(self, path: Path) -> Path:
        """Where a path leads to that these programs see, for one that is not among them."""
        return self._root / path.relative_to("/")


@contextlib.contextmanager
def own_mounts() -> Iterator[Mounts]:
    """Room for mounts. Raises `subprocess.CalledProcessError` where this system gives none."""
    with contextlib.ExitStack() as stack:
        yield Mounts(stack)


@cache
def missing() -> str:
    """Why there can be no such network here; empty where there can."""
    if sys.platform != "linux":
        return "machines of their own are network namespaces, which only Linux has"
    try:
        with network() as made:
            made.machine("probe", 1)
    except FileNotFoundError as error:
        return f"machines of their own need the program {error.filename}"
    except subprocess.CalledProcessError as error:
        said = (error.stdout or "").strip().splitlines()
        return f"this system gives no network namespaces to this user: {said[-1] if said else error}"
    return ""


def _kept(stack: contextlib.ExitStack, words: Sequence[str], *waits: str) -> int:
    """The pid of a process that keeps the namespaces that `words` make, until the stack is closed. `waits` is what runs
    in them: it says "up", and ends with its stdin."""
    child = subprocess.Popen(
        [*words, *(waits or _WAITS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.stdout is not None

    def ends() -> None:
        with child:
            child.kill()

    stack.callback(ends)
    said = child.stdout.readline()
    if said != "up\n":
        raise subprocess.CalledProcessError(child.wait(), list(words), output=said)
    return child.pid


def _run(words: Sequence[str]) -> None:
    subprocess.run(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
