"""Wakes whoever waits in this process for something that changed, and nobody else: the port `ports.Notifier`.

A waiter names topics (`parlerd.core.topics`); publishing a topic sets its flag, and the flag of whoever left open what
that topic says. Arm the waiter before looking, or a change between the look and the wait is missed. Cost follows what
changed: publishing touches only the waiters of that topic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

import trio

from parlerd.core.topics import Topic


class _Waiter:
    """A flag with topics, which stands in the notifier's table while it is entered."""

    __slots__ = ("_event", "_notifier", "_topics")

    def __init__(self, notifier: LocalNotifier, topics: Iterable[Topic]) -> None:
        self._notifier = notifier
        self._event = trio.Event()
        self._topics = set(topics)

    def __enter__(self) -> _Waiter:
        for topic in self._topics:
            self._notifier.waiters.setdefault(topic, set()).add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.keep(frozenset())

    def add(self, topics: Iterable[Topic]) -> None:
        """Be woken by these too."""
        for topic in topics:
            if topic not in self._topics:
                self._topics.add(topic)
                self._notifier.waiters.setdefault(topic, set()).add(self)

    def keep(self, topics: AbstractSet[Topic]) -> None:
        """Be woken by nothing but these, of what was named before."""
        if len(topics) == len(self._topics):
            return  # all of them were named before
        for topic in self._topics - topics:
            self._topics.discard(topic)
            waiting = self._notifier.waiters[topic]
            waiting.discard(self)
            if not waiting:
                del self._notifier.waiters[topic]

    def wake(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """Forget earlier wakes. Look at the state after this, not before."""
        if self._event.is_set():
            self._event = trio.Event()

    @property
    def woken(self) -> bool:
        """Whether something was published since the last `clear`."""
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()


class _Ear:
    """A function that is called in the place of a waiter."""

    __slots__ = ("wake",)

    def __init__(self, told: Callable[[], None]) -> None:
        self.wake = told


class LocalNotifier:
    """`ports.Notifier` for whoever waits in this process. Everything happens on the loop's thread."""

    def __init__(self) -> None:
        self.waiters: dict[Topic, set[_Waiter | _Ear]] = {}

    def listen(self, *topics: Topic) -> _Waiter:
        """A waiter for any of `topics`."""
        return _Waiter(self, topics)

    def hear(self, topic: Topic, told: Callable[[], None]) -> Callable[[], None]:
        """Call `told` in each turn of the loop that publishes `topic`, until what this gives is called. `told` raises
        nothing and publishes nothing."""
        ear = _Ear(told)
        self.waiters.setdefault(topic, set()).add(ear)

        def stop() -> None:
            hearing = self.waiters[topic]
            hearing.discard(ear)
            if not hearing:
                del self.waiters[topic]

        return stop

    def publish(self, topics: Iterable[Topic]) -> None:
        """Wake every waiter of these topics, and of the wider ones that hold them."""
        for topic in topics:
            for each in topic.wider():
                for waiter in self.waiters.get(each, ()):
                    waiter.wake()

    def wake_all(self) -> None:
        """Wake everyone: the daemon drains, or rooms became another process's."""
        self.publish(list(self.waiters))
