"""The people who may open a link to this home, which a relay keeps and a person's own home does not need.

Not here: how a person proves who they are, and the secret by which a new one is let in (`relay`). What a person who is
sent away had in rooms ends by a command of each room (`Expel`). Above: `home`. Invariant: of each key the newest fact
says whether its person may come in, and nobody is forgotten: who was sent away is told so.
"""

from __future__ import annotations

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import By, Ids, Millis, PrincipalId, label


class Person(msgspec.Struct):
    """Somebody who was enrolled here. `name` is what their machine called itself, and `since` when they were enrolled
    last."""

    principal: PrincipalId
    name: str
    since: Millis
    kicked: bool = False


class EnrolmentState(msgspec.Struct):
    people: dict[PrincipalId, Person] = {}


class Enrolment(Facet[EnrolmentState]):
    """Lets people in, and sends them away."""

    __slots__ = ()

    def _enrol(self, command: c.EnrolPerson, by: By, now: Millis, ids: Ids) -> Decision:
        known = self.state.people.get(command.principal)
        if known is not None and not known.kicked:
            return Decision(answer="enrolled")
        enrolled = e.PersonEnrolled(principal=command.principal, name=label(command.name))
        return Decision((enrolled,), authority="home", answer="enrolled")

    def _kick(self, command: c.KickPerson, by: By, now: Millis, ids: Ids) -> Decision:
        known = self.state.people.get(command.principal)
        if known is None:
            raise Refused("no_such_agent", "Nobody with this key is enrolled here.")
        if known.kicked:
            return Decision(answer="kicked")
        return Decision((e.PersonKicked(principal=command.principal),), authority="home", answer="kicked")

    def _enrolled(self, event: e.PersonEnrolled, header: e.Header) -> None:
        self.state.people[event.principal] = Person(event.principal, event.name, header.at)

    def _kicked(self, event: e.PersonKicked, header: e.Header) -> None:
        self.state.people[event.principal].kicked = True

    DECIDES = (decides(c.EnrolPerson, _enrol), decides(c.KickPerson, _kick))
    APPLIES = (applies(e.PersonEnrolled, _enrolled), applies(e.PersonKicked, _kicked))
    TOUCHES = (touches(e.PersonEnrolled, nobody), touches(e.PersonKicked, nobody))
