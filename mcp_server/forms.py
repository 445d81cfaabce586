"""The form that a host shows its person: one field for the code that a joiner shows.

    handshake era:  approve -> HostForm --elicitation/create--> host --what was typed--> approve
    envelope era:   approve -> AnswerForm: the call is answered with the form; the host calls again with what was typed

Not here: what the form says and what follows from an answer (`tools.approve`). Above: `calls`, which makes a form for
each call. Invariants: about one request at most one form is open in all windows of this daemon; a form is answered
once, in the window that was asked, while it is open; an empty or other answer decides nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
import trio

from mcp_server.asking import Asking
from parlerd.core.errors import Refused

FORM_SECONDS: Final = 110.0
"""How long a form stays open: the person has to look at another screen, and hosts give a call 120 s."""
CODE: Final = "code"
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {CODE: {"type": "string", "title": "Code", "description": "the 4 characters the joiner shows"}},
    "required": [CODE],
}
"""No default and no enum: a form that a machine can pass by accepting it is no question. Source: security spec A2."""


class Form(Protocol):
    """The person at this host, as far as the host can ask them."""

    @property
    def offered(self) -> bool:
        """Whether the host can show a form."""
        ...

    async def ask_code(self, about: str, message: str) -> str | None:
        """Show `message` with one required field for a code; what was typed, or None when nothing was decided. `about`
        is the request that is to be decided.

        Raises `Refused(busy)` while another form about that request is open."""
        ...


class _Answer(msgspec.Struct, frozen=True):
    """A host's answer to a form, as the protocol has it."""

    action: str
    content: dict[str, str | int | float | bool | list[str] | None] | None = None


class _Open(msgspec.Struct, frozen=True):
    """A form that is open: what it says, the connection that was asked, until when, and a word that only an answer to
    this form can repeat (empty where the answer comes on the form's own request)."""

    message: str
    session: str
    until: float
    state: str = ""


class Forms:
    """The open forms of all windows of this daemon, by the request that each is about."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    def begin(self, about: str, form: _Open) -> None:
        """Open a form. A form that is answered in a repeated call may replace one of the same connection, because the
        host may have dropped that. Raises `Refused(busy)` while any other form is open."""
        open_now = self._now(about)
        replaces = open_now is not None and form.state and open_now.state and open_now.session == form.session
        if open_now is not None and not replaces:
            raise Refused(
                "busy", "A form about this request is open already.", hint="Wait for the person to answer it."
            )
        self._open[about] = form

    def is_answered(self, about: str, message: str, session: str, state: object) -> bool:
        """Whether a repeated call with this state answers the form that is open. Then the form is closed."""
        form = self._now(about)
        if form is None or not form.state or (form.message, form.session, form.state) != (message, session, state):
            return False
        self.end(about)
        return True

    def end(self, about: str) -> None:
        """The form was answered, closed or withdrawn."""
        self._open.pop(about, None)

    def _now(self, about: str) -> _Open | None:
        now = trio.current_time()
        self._open = {each: form for each, form in self._open.items() if form.until >= now}
        return self._open.get(about)


class HostForm:
    """The form of a host in the handshake era, for one call: the host is asked, and its answer is waited for."""

    def __init__(self, forms: Forms, asking: Asking, capabilities: object, session: str) -> None:
        self._forms = forms
        self._asking = asking
        self.offered = offers_forms(capabilities)
        self._session = session

    async def ask_code(self, about: str, message: str) -> str | None:
        """See `Form`."""
        self._forms.begin(about, _Open(message, self._session, trio.current_time() + FORM_SECONDS))
        try:
            with trio.move_on_after(FORM_SECONDS):
                return typed_in(await self._asking.ask("elicitation/create", _params(message)))
            return None
        finally:
            self._forms.end(about)


class AnswerForm:
    """The form of a host in the envelope era, for one call: asked in the call's answer, heard in its repetition."""

    def __init__(self, forms: Forms, call: Mapping[str, Any], capabilities: object, session: str) -> None:
        self._forms = forms
        # The parameters of the call, which hold what was typed if the call repeats one that was answered with a form.
        self._call = call
        self.offered = offers_forms(capabilities)
        self._session = session
        # What the call is to be answered with instead of a tool's text; None while there is nothing to ask.
        self.required: dict[str, Any] | None = None

    async def ask_code(self, about: str, message: str) -> str | None:
        """See `Form`. Where this call brings no answer back, it is to be answered with `required`."""
        await trio.lowlevel.checkpoint()
        if self._forms.is_answered(about, message, self._session, self._call.get("requestState")):
            responses = self._call.get("inputResponses")
            return typed_in(responses.get(CODE) if isinstance(responses, dict) else None)
        state = secrets.token_urlsafe(16)
        self._forms.begin(about, _Open(message, self._session, trio.current_time() + FORM_SECONDS, state))
        self.required = {
            "inputRequests": {CODE: {"method": "elicitation/create", "params": _params(message)}},
            "requestState": state,
        }
        return None


def offers_forms(capabilities: object) -> bool:
    """Whether a host with these capabilities can show a form. An empty offer means forms; one that names only URLs does
    not."""
    offer = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
    return isinstance(offer, dict) and (offer.get("form") is not None or offer.get("url") is None)


def typed_in(answer: object) -> str | None:
    """What the person typed into the form; None when nothing was decided."""
    try:
        found = msgspec.convert(answer, type=_Answer)
    except msgspec.ValidationError:
        return None
    typed = (found.content or {}).get(CODE) if found.action == "accept" else None
    return typed if isinstance(typed, str) else None


def _params(message: str) -> dict[str, Any]:
    return {"mode": "form", "message": message, "requestedSchema": SCHEMA}
