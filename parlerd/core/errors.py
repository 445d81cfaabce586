"""Every error Parler can give, in one table.

    ParlerError            anything with a code a caller can act on
      Refused              a room rule said no: a normal answer, not a fault
      StoreError           the store could not commit or read; nothing was half done

A code is stable and machine-readable; its sentence is for a person and says what to do next. Nothing else in the
project invents a code: surfaces look here, and a test compares `docs/errors.md` with this table.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

Action = Literal["retry", "back_off", "reauthorize", "ask_person", "fix_request", "stop"]
Fault = Literal["caller", "person", "home", "peer"]
Scope = Literal["request", "agent", "room", "connection", "home"]


class ErrorSpec(msgspec.Struct, frozen=True):
    """What a code means: its sentence, whose fault it is, what to do, and whether trying again can help.

    `message` and `hint` are for a person at a command line. `tool_hint` is the hint for an agent that called a tool,
    where the two differ: it names no command, unless it says that a person runs the command.
    """

    code: str
    message: str
    hint: str
    tool_hint: str = ""
    action: Action = "fix_request"
    """What a program does about this error."""
    fault: Fault = "caller"
    """Whose fault the error is."""
    scope: Scope = "request"
    """What the error concerns: only this request, or everything of an agent, a room, a connection or the home."""
    retryable: bool = False
    """Whether the same request may work later."""
    status: int = 400
    """The HTTP status of an answer with this error: 400 for what is wrong whenever it is sent. Source: contract spec,
    Status."""


def _table(*specs: ErrorSpec) -> dict[str, ErrorSpec]:
    """The errors by their codes. Raises `ValueError` when two have the same code."""
    found = {spec.code: spec for spec in specs}
    if len(found) < len(specs):
        raise ValueError("two errors have the same code")
    return found


_E = ErrorSpec

ERRORS: Final[dict[str, ErrorSpec]] = _table(
    # -- the request itself
    _E(
        "unknown_operation",
        "This daemon has no such operation.",
        "Run `parler version`; the two sides may differ in version.",
        tool_hint="Ask the person to run `parler version`: the two sides may differ in version.",
        status=404,
    ),
    _E("invalid_param", "A parameter is not valid.", "Correct the parameter that is named and try again."),
    _E("invalid_name", "That is not a usable name.", "Use 1 to 64 of: ASCII letters, digits, and . _ @ # / -"),
    _E(
        "text_too_long",
        "The text is longer than a message may be.",
        "Split it, or put it in a file and share that.",
        tool_hint="Split it into several parler_send calls.",
        status=413,
    ),
    _E(
        "expression_invalid",
        "This is not a valid expression.",
        "`reason` says what is wrong where the caret stands, and `suggest` what was probably meant.",
    ),
    _E(
        "expression_failed",
        "An expression came to no value.",
        "`reason` says why, and where in the expression. has(x.y) asks first whether there is a y.",
        status=409,
    ),
    _E(
        "expression_budget",
        "An expression takes more than one may.",
        "Go through less: name the key that you need, and keep a part of the expression as a view.",
        status=409,
    ),
    _E(
        "idempotency_conflict",
        "This idempotency key was used before with another input.",
        "Use a new key for a new request.",
        status=409,
    ),
    _E(
        "envelope_refused",
        "This signed message is not one that the room can take.",
        "Sign it again as the room stands now: `what` names the field that does not fit.",
        fault="peer",
    ),
    _E(
        "relay_equivocation",
        "The relay of this room contradicts itself: what it shows cannot all be what the members said.",
        "Ask whoever runs it whether an older copy of it was restored, which looks the same. Compare with the others "
        "who are in the room, and go on in a new session. Nothing is sent there any more.",
        action="stop",
        fault="peer",
        scope="room",
        status=409,
    ),
    _E(
        "room_archived",
        "The relay of this room began anew and holds the room no more: what is here is an archive.",
        "Read it here. To go on, open a new session.",
        tool_hint='It can be read: parler_recv {"since":0}. To go on, open a new session with parler_open_session.',
        action="stop",
        fault="peer",
        scope="room",
        status=409,
    ),
    _E(
        "relay_rolled_back",
        "The relay of this room holds less than it told before: what was said last is here and not there any more.",
        "All of it can be read here. Ask whoever runs the relay whether an older copy of it was restored. If so, the "
        "person who opened the room can let it go on: parler room rewind ROOM. Until then nothing is sent there.",
        tool_hint='All of it can be read: parler_recv {"since":0}. Tell the person that an older copy of the relay may '
        "have been restored. The person who opened the room can let it go on: parler room rewind ROOM",
        action="stop",
        fault="peer",
        scope="room",
        status=409,
    ),
    _E(
        "room_elsewhere",
        "This room lives on a relay, and whoever runs the relay says how much of its words is kept there.",
        "Name a room that lives on this machine. The table `[mirror]` of the settings says what this machine keeps of "
        "rooms on relays.",
        scope="room",
        status=409,
    ),
    _E(
        "room_is_here",
        "This room lives on this machine, and no relay can lose a part of it.",
        "Name a room that lives on a relay.",
        scope="room",
        status=409,
    ),
    _E(
        "rewind_refused",
        "What the relay holds of this room is not the beginning of what this machine was told, so there is no message "
        "that both would go on from.",
        "Somebody may have written there since an older copy of the relay was restored. Ask the person who runs the "
        "relay, and go on in a new session: parler session open",
        action="stop",
        fault="peer",
        scope="room",
        status=409,
    ),
    _E(
        "attach_refused",
        "An agent cannot speak over this link as it was put.",
        "Attach it again: `what` names what does not fit, and `now` is this home's clock.",
        fault="peer",
        scope="connection",
        status=403,
    ),
    _E(
        "statement_refused",
        "This signed statement is not one that the room can take.",
        "Sign it again as the room stands now: `what` names the field that does not fit.",
        fault="peer",
    ),
    _E(
        "sealing_key_refused",
        "This key cannot be one by which an agent is given the secrets of a sealed room.",
        "The agent's home has to make another key and knock again.",
        fault="peer",
    ),
    _E(
        "sealed_unreadable",
        "This sealed message, or what belongs to it, cannot be read here.",
        "`what` says why. Either it was sealed for others, or it was damaged, or its author tells the room's home "
        "something else than its readers.",
        action="stop",
        fault="peer",
    ),
    _E(
        "idempotency_expired",
        "This idempotency key is too old to be replayed.",
        "Read the room to see what happened, then use a new key.",
        status=410,
    ),
    _E(
        "interrupted",
        "Interrupted before it was done.",
        "Run it again; a request with the same idempotency key is not done twice.",
        action="retry",
        fault="person",
        retryable=True,
        status=409,
    ),
    # -- who is asking
    _E(
        "needs_person",
        "Only a person may do this, and an agent host is among the callers.",
        "Ask the person to run it in a terminal of their own.",
        action="ask_person",
        fault="person",
        scope="agent",
        status=403,
    ),
    _E(
        "person_only",
        "This belongs to the person and is not offered to agents.",
        "Ask the person to run the command that is named.",
        action="ask_person",
        fault="person",
        scope="agent",
        status=403,
    ),
    _E(
        "hook_only",
        "Only the hook of an agent host asks this.",
        "Read with `parler recv` or the parler_recv tool.",
        tool_hint="Read with parler_recv.",
        scope="connection",
        status=403,
    ),
    _E(
        "window_only",
        "Only the window of an agent host asks this.",
        "Use the command or the tool for it.",
        scope="connection",
        status=403,
    ),
    _E(
        "needs_yes",
        "This asks first, and nobody said yes.",
        "Run it at a terminal, or add --yes once you have seen what it does.",
        action="ask_person",
        fault="person",
        status=409,
    ),
    _E(
        "needs_proof",
        "This home asks for a stronger proof that a person decided.",
        "Run it at a terminal with the code the joiner shows: --code CODE.",
        tool_hint="Ask the person to approve in a terminal of theirs, with the code that the joiner shows.",
        action="ask_person",
        fault="person",
        scope="agent",
        status=403,
    ),
    _E(
        "code_mismatch",
        "That is not the code the joiner shows.",
        "Look at the code on the joiner's side and type it again.",
        action="ask_person",
        fault="person",
        status=409,
    ),
    _E(
        "no_form",
        "This agent host cannot show a form.",
        "Ask the person to run the command that is named.",
        action="ask_person",
        fault="person",
        status=409,
    ),
    _E(
        "form_undecided",
        "The form was closed, left empty or did not match, so nothing was decided.",
        "Ask the person to run the command that is named.",
        action="ask_person",
        fault="person",
        status=409,
    ),
    # -- rooms, keys, requests
    _E(
        "no_such_room",
        "There is no such room among yours.",
        "Run `parler rooms` to see the rooms you are in.",
        tool_hint="parler_rooms lists the rooms you are in.",
        scope="room",
        status=404,
    ),
    _E(
        "no_active_session",
        "There is no active session.",
        "Open a session, join one with a key, or name a room with --room.",
        tool_hint="Open a session with parler_open_session, join one with parler_join_session and its key, or pass "
        "room.",
        scope="room",
        status=404,
    ),
    _E(
        "room_closed",
        "This session is closed.",
        "Open a new one to go on.",
        tool_hint='It can still be read: parler_recv {"since":0}. To go on, open a new one with parler_open_session.',
        action="stop",
        scope="room",
        status=409,
    ),
    _E(
        "room_deleted",
        "This room was deleted by the person whose agent owned it.",
        "What this machine was told before can be read where `parler rooms` still lists the room. To go on, open a new "
        "session.",
        tool_hint="It can be read where parler_rooms still lists it. To go on, open a new session with "
        "parler_open_session.",
        action="stop",
        scope="room",
        status=404,
    ),
    _E(
        "not_owner",
        "Only the owner of this room may do that.",
        "Ask the owner.",
        action="ask_person",
        scope="room",
        status=403,
    ),
    _E(
        "unknown_key",
        "No session answers to this key.",
        "Check the key with whoever gave it; it may be mistyped, expired, used up or revoked. "
        "A key of a relay is typed whole, up to and with the relay's name: KEY@NAME.",
        scope="room",
        status=404,
    ),
    _E(
        "knock_unfinished",
        "This one has not shown yet that it has the key.",
        "Wait until it has: its machine and yours have to be there at the same time. Where it cannot come further, it "
        "knocks again.",
        action="back_off",
        fault="peer",
        scope="room",
        retryable=True,
        status=409,
    ),
    _E(
        "no_live_key",
        "This room has no key any more with which the agent could knock.",
        "The key expired, was used up or was revoked since the start. Start the agent again: parler bring HOST",
        tool_hint="The key expired, was used up or was revoked since the start. Your user can start you again: "
        "parler bring HOST",
        scope="room",
        status=404,
    ),
    _E(
        "wrong_room",
        "The room that the relay named is not the one that this key was made for. Nothing was sent to that room.",
        "Compare all of the key with whoever gave it: it may be mistyped. If it is not, the relay answers with a room "
        "of somebody else.",
        action="ask_person",
        scope="home",
        status=409,
    ),
    _E(
        "home_not_trusted",
        "This belongs to another home, and this machine does not dial homes nobody added.",
        "Ask whoever gave you the key for the line that adds their relay, and run it: parler connect --relay LINE",
        tool_hint="Ask your user to get the line that adds the relay from whoever gave the key, and to run it: "
        "parler connect --relay LINE",
        action="ask_person",
        fault="person",
        scope="home",
        status=403,
    ),
    _E(
        "wrong_relay",
        "Another key answered at this address than the one that the line names.",
        "Nothing was stored. Ask whoever runs the relay for its line again: `parler relay status` prints it there.",
        tool_hint="Tell your user: `parler homes` in a terminal shows which relay this is.",
        action="ask_person",
        fault="peer",
        scope="home",
        status=403,
    ),
    _E(
        "wrong_secret",
        "The relay does not take this join secret.",
        "Nothing was stored. Ask whoever runs the relay for the secret: the file join-secret in its home holds it.",
        action="ask_person",
        fault="person",
        scope="home",
        status=403,
    ),
    _E(
        "not_enrolled",
        "This relay does not know you yet, or no longer.",
        "Ask whoever runs the relay for its line and its join secret; then: parler connect --relay LINE",
        tool_hint="Tell your user to add the relay again in a terminal: parler connect --relay LINE",
        action="ask_person",
        fault="person",
        scope="home",
        status=403,
    ),
    _E(
        "kicked",
        "Whoever runs this relay ended your membership there.",
        "Ask them. To take the relay out here: parler homes remove NAME",
        tool_hint="Tell your user: whoever runs the relay can let them in again.",
        action="ask_person",
        fault="person",
        scope="home",
        status=403,
    ),
    _E(
        "no_such_home",
        "No home of this name was added.",
        "`parler homes` lists them.",
        tool_hint="Tell your user: `parler homes` in a terminal lists them.",
        scope="home",
        status=404,
    ),
    _E(
        "outbox_not_empty",
        "Messages for this home still wait here to be sent, and would be lost.",
        "Wait until the link is back, or drop them: parler homes remove NAME --yes",
        tool_hint="Tell your user: they decide whether the messages are given up.",
        action="ask_person",
        fault="person",
        scope="home",
        status=409,
    ),
    _E(
        "relay_not_running",
        "No relay of this home is running.",
        "Make one with `parler connect --team`, or start the one that was made: parler relay start",
        tool_hint="Tell your user: whoever runs the relay sees to it in a terminal.",
        action="ask_person",
        fault="person",
        scope="home",
        status=409,
    ),
    _E(
        "port_taken",
        "Another program has this port.",
        "Choose another: parler connect --team --port N",
        tool_hint="Tell your user: whoever runs the relay sees to it in a terminal.",
        action="ask_person",
        fault="person",
        scope="home",
        status=409,
    ),
    _E(
        "no_address",
        "This machine has no address at which others could reach a relay.",
        "Connect it to the network, or name an address of this machine: parler connect --team --bind ADDRESS",
        tool_hint="Tell your user: whoever runs the relay sees to it in a terminal.",
        action="ask_person",
        fault="person",
        scope="home",
        status=409,
    ),
    _E(
        "join_pending",
        "Your request to come in waits for a person.",
        "A person approves it with `parler approvals`, and types the code that is shown here.",
        tool_hint="Tell your user the code: a person types it in the window that opened the session or, in a terminal, "
        'after `parler approvals`. To wait for the decision: parler_recv {"wait_secs":600}',
        action="ask_person",
        fault="person",
        scope="room",
        status=409,
    ),
    _E(
        "join_denied",
        "The person declined your request to come in.",
        "It stays declined until the person approves it after all.",
        tool_hint="It stays declined until they lift it. Open a session of your own, or join another with its key.",
        action="stop",
        fault="person",
        scope="room",
        status=403,
    ),
    _E(
        "too_many_pending",
        "Too many requests already wait for this key.",
        "Ask the owner to decide on those first.",
        action="back_off",
        scope="room",
        retryable=True,
        status=429,
    ),
    _E(
        "knock_over",
        "Your request to come in is over, and nobody decided about it.",
        "Join with the key again, if you still want to come in.",
        action="ask_person",
        scope="room",
        status=409,
    ),
    _E(
        "owner_stays",
        "The owner of a room does not leave it: nobody would be left to decide who comes in.",
        "Give the room to another member with `parler room transfer`, or end it for all with `parler room archive`.",
        tool_hint="End it for all with parler_leave, or leave it open.",
        scope="room",
        status=403,
    ),
    _E(
        "owner_is_there",
        "A room is taken over only when its owner's person has been away for long.",
        "Ask that person to hand it over with parler room transfer, or wait.",
        tool_hint="Only a person takes a room over, and only when its owner's person has been away for long.",
        scope="room",
        status=409,
    ),
    _E(
        "not_successor",
        "A sealed room is taken over by the person alone whom its owner's person named before.",
        "With parler room continue --without-owner, open another sealed room with the same people.",
        tool_hint="Only a person takes a room over, and a sealed one only whom its owner's person named.",
        scope="room",
        status=403,
    ),
    _E(
        "too_many_members",
        "This sealed room has as many members as one may have.",
        "Open another room.",
        scope="room",
        status=429,
    ),
    _E(
        "stale_epoch",
        "The keys of this sealed room changed meanwhile.",
        "Send it again: it is sealed with the keys as they are now.",
        action="retry",
        fault="peer",
        scope="room",
        retryable=True,
        status=409,
    ),
    _E(
        "not_sealed_in",
        "An agent in this sealed room has not been given its keys yet.",
        "Wait until the machine of the room's owner is there: it gives the keys by itself.",
        action="back_off",
        fault="peer",
        scope="room",
        retryable=True,
        status=409,
    ),
    _E(
        "sealed_room",
        "This cannot be done in a sealed room, because its home cannot read what is said there.",
        "A room that its relay can read takes it. To open one, run: parler session open --clear (a queue: parler serve "
        "NAME --clear)",
        tool_hint="A room that its relay can read takes it: the person opens one with `parler session open --clear`, "
        "or a queue with `parler serve NAME --clear`.",
        scope="room",
        status=409,
    ),
    _E(
        "not_sealed",
        "This room is not sealed: its home can read it, and there is nothing in it for its members to compare.",
        "For a session that its relay cannot read, open another one on a relay.",
        scope="room",
        status=409,
    ),
    _E(
        "too_many_transfers",
        "This room has changed hands as often as a room may.",
        "Open another room.",
        scope="room",
        status=429,
    ),
    _E(
        "too_many_keys",
        "This room has as many keys as one may have at a time.",
        "Revoke those that nobody needs any more (parler session list, parler session revoke KEY).",
        tool_hint="Ask your user to revoke those that nobody needs any more (parler session list).",
        action="fix_request",
        scope="room",
        status=429,
    ),
    _E(
        "too_many_audiences",
        "There is a limit to how many different sets of readers one agent, and all agents of one person, may write to "
        "privately in one room; this would be one more.",
        "Write to everyone, or to the same readers as before; or open a new session.",
        action="fix_request",
        scope="room",
        status=429,
    ),
    _E(
        "too_many_cards",
        "There is a limit to how many agents of one person may have a card in this directory; this would be one more.",
        "Take the card of an agent back that is no longer used: parler register --withdraw --as NAME",
        tool_hint="Ask the person which agent's card can be taken back.",
        action="fix_request",
        scope="home",
        status=429,
    ),
    _E(
        "no_card",
        "There is no card of that agent that you may see.",
        "Run `parler discover` to see who has one.",
        tool_hint="parler_discover lists who has one.",
        action="fix_request",
        status=404,
    ),
    _E(
        "too_many_bytes",
        "Your agents keep as much at this relay as those of one person may.",
        "Go on in a session on this machine, or ask whoever runs the relay to raise `[quota] person_kept_bytes`.",
        tool_hint='Go on in a session on this machine, opened with {"home":"local"}, or ask the person.',
        action="ask_person",
        fault="person",
        status=429,
    ),
    _E(
        "too_many_rooms",
        "You have as many rooms at this relay as one person may.",
        "Open the session on this machine, or ask whoever runs the relay to raise `[quota] person_rooms`.",
        tool_hint='Open the session on this machine, with {"home":"local"}, or ask the person.',
        action="ask_person",
        fault="person",
        status=429,
    ),
    _E(
        "no_such_request",
        "Nobody by that id or name is waiting.",
        "Run `parler session requests` to see who is waiting.",
        tool_hint="parler_rooms with action requests lists who knocks.",
        fault="person",
        status=404,
    ),
    _E(
        "already_decided",
        "That request was decided before.",
        "There is nothing more to do. Run `parler roster` to see who is in the room.",
        tool_hint="There is nothing more to do. parler_rooms with action roster shows who is in the room.",
        fault="person",
        status=409,
    ),
    _E(
        "no_such_handoff",
        "That message offers nobody the turn.",
        "Run `parler handoff show` to see the offers.",
        tool_hint="parler_rooms with action handoffs lists the offers.",
        status=404,
    ),
    _E(
        "handoff_not_yours",
        "This hand-off is for another agent: the one it names or one with its role takes or declines it, and only its "
        "giver withdraws it.",
        "Run `parler handoff show` to see for whom it is.",
        tool_hint="parler_rooms with action handoffs says for whom it is.",
        action="stop",
        status=403,
    ),
    _E(
        "handoff_taken",
        "Another agent has this turn.",
        "Leave the work to the agent that is named; send it what you know.",
        action="stop",
        scope="room",
        status=409,
    ),
    _E(
        "handoff_over",
        "This hand-off was declined or withdrawn, so nobody takes it any more.",
        "Ask its giver, who has the turn, whether it offers the turn anew.",
        action="stop",
        scope="room",
        status=409,
    ),
    _E(
        "handoff_expired",
        "This hand-off was not taken in time, so its giver has the turn.",
        "Ask its giver whether it offers the turn anew.",
        action="stop",
        scope="room",
        status=409,
    ),
    _E(
        "too_many_handoffs",
        "There is a limit to how many offers of the turn one agent, and all agents of a room, may have open; this "
        "would be one more.",
        "Withdraw an offer, or wait until one is taken or expires.",
        action="back_off",
        scope="room",
        retryable=True,
        status=429,
    ),
    _E(
        "pair_has_room",
        "These two agents have another room already.",
        "Send the message again: it goes into that room.",
        action="retry",
        retryable=True,
        status=409,
    ),
    _E("ambiguous_name", "More than one matches that name.", "Use one of the ids that are listed.", status=409),
    _E(
        "no_such_agent",
        "There is no such agent in this room.",
        "Run `parler roster` to see who is in the room.",
        tool_hint="parler_rooms with action roster lists who is in the room.",
        status=404,
    ),
    _E(
        "no_such_task",
        "There is no such task among those that this room remembers.",
        "Run `parler recv --unclaimed` to see the open tasks of a room; name a task by its number, or by its id.",
        tool_hint="parler_recv with the kind task shows the tasks of a room; name one by its number.",
        status=404,
    ),
    _E(
        "task_not_yours",
        "This task is for another agent: the one that it names, or one with its role.",
        "Take another task.",
        action="stop",
        status=403,
    ),
    _E(
        "already_claimed",
        "Another agent holds this task.",
        "Take another task, or wait until the lease of that agent ends.",
        action="back_off",
        scope="room",
        retryable=True,
        status=409,
    ),
    _E(
        "claim_lost",
        "You do not hold this task, or not any more.",
        "Stop working on it. What you said of it is kept in the room for whoever holds it now.",
        action="stop",
        scope="room",
        status=409,
    ),
    _E("task_over", "This task is over.", "Take another task.", action="stop", scope="room", status=409),
    _E(
        "task_not_offered",
        "This task is not offered to you now: its condition does not hold for you, or somebody has it already.",
        "Run `parler recv --unclaimed` to see the tasks that you could claim.",
        tool_hint='Call parler_recv {"unclaimed":true} to see the tasks that you could claim.',
        retryable=True,
        status=409,
    ),
    _E(
        "too_many_gated",
        "There is a limit to how many messages of one room may wait for a condition or a timer, and this room has"
        " reached it.",
        "Wait until some of them are shown, or take back those that are not needed: `parler withdraw ID`.",
        tool_hint="Wait until some of them are shown, or take back those that are not needed.",
        action="back_off",
        scope="room",
        retryable=True,
        status=429,
    ),
    _E(
        "no_such_gated",
        "No message of yours with this id waits for a condition or a timer.",
        "Run `parler why ID` to see what became of a message.",
        tool_hint='Call parler_rooms {"action":"why","id":"ID"} to see what became of a message.',
        status=404,
    ),
    _E(
        "no_such_receipt",
        "There is no receipt of that, or it is not for you.",
        "A receipt is given of a message that you may see, and of what you did: name the message's id, or the `fact` "
        "that the answer of a write named.",
        status=404,
    ),
    _E(
        "too_many_tasks",
        "There is a limit to how many tasks of one room may wait or be held, and this room has reached it.",
        "Let workers end some of them, or take back those that are not needed: `parler task cancelled --task ID`.",
        tool_hint="Let workers end some of them, or take back those that are not needed.",
        action="back_off",
        scope="room",
        retryable=True,
        status=429,
    ),
    _E(
        "not_a_worker",
        "You may ask this queue for work, and are none of its workers.",
        "Run `parler serve NAME` with the name of the queue, and claim again.",
        tool_hint='Call parler_act {"action":"serve","service":"NAME"} with the name of the queue, and claim again.',
        status=403,
    ),
    _E(
        "no_such_fact",
        "There is no such fact in a memory that you may see.",
        "Run `parler recall WORDS` and name a fact by its key, or by its id.",
        tool_hint='Find it with parler_memory {"action":"recall","query":"..."} and name it by its key or its id.',
        status=404,
    ),
    _E(
        "not_your_fact",
        "Somebody else wrote that, and the room forgets it only for who wrote all of its versions, or for its owner.",
        "Ask the owner of the room. You can write a new version of it instead.",
        action="ask_person",
        status=403,
    ),
    _E(
        "version_conflict",
        "Somebody wrote this key meanwhile: it is not at the version that you named.",
        "Read what is there now, and write again with that version.",
        tool_hint="Read what is there now, and write again with if_version as it is now.",
        fault="peer",
        status=409,
    ),
    _E(
        "memory_full",
        "The memory of this room has as many keys as it may have.",
        "Write under a key that there is, or without a key.",
        scope="room",
        status=429,
    ),
    # -- coordination
    _E(
        "no_such_key",
        "There is no such key in the state of this room.",
        "See which keys there are: parler state list",
        tool_hint='See which keys there are: parler_state {"action":"list"}',
        status=404,
    ),
    _E(
        "scope_denied",
        "This scope of the state is another agent's: everybody reads it, and only that agent writes it.",
        "Write to your own scope, or to _shared.",
        status=403,
    ),
    _E(
        "precondition_failed",
        "The condition of this is not true.",
        "Wait until it is, and do it again.",
        fault="peer",
        status=409,
    ),
    _E(
        "no_such_action",
        "There is no such action in this room.",
        "See which actions there are: parler action list",
        tool_hint='See which actions there are: parler_act {"action":"actions"}',
        status=404,
    ),
    _E(
        "action_disabled",
        "This action is not there now: what has to be true for it is not.",
        "Wait until it is true, and invoke the action again.",
        fault="peer",
        status=409,
    ),
    _E(
        "agent_disabled",
        "You are not there now: what you said has to be true for that is not.",
        "You can read and wait. Wait until it is true, or say something else with `parler enabled`.",
        tool_hint="You can read and wait. Wait until it is true.",
        status=409,
    ),
    _E(
        "action_cooldown",
        "This action was invoked just now, and has to cool down.",
        "Invoke it again when it is available; until then do something else.",
        fault="peer",
        status=409,
    ),
    _E(
        "action_owned",
        "This action is another agent's, who alone changes it.",
        "Register an action of another name, or ask that agent.",
        status=403,
    ),
    _E("invalid_timer", "This is no timer.", "A timer has an effect, and one of ms, at, and ticks with tick_on."),
    _E(
        "wrong_type",
        "The value there is of a type to which this cannot be done.",
        "Read what is there, or set another value.",
        status=409,
    ),
    _E(
        "secret_refused",
        "This value holds what looks like a credential, and every member of the room would be shown it.",
        "Keep the credential where it is, and write where to find it.",
    ),
    _E(
        "value_too_large",
        "This value is larger than a value may be.",
        "Keep less under one key, or share a file.",
        status=413,
    ),
    _E(
        "state_full",
        "The state of this room is as large as it may be.",
        "Delete keys that nobody needs any more.",
        scope="room",
        status=429,
    ),
    _E(
        "no_such_message",
        "There is no such message among those you may see.",
        "Name it by its number, which `parler recv --all` shows, or by its id.",
        tool_hint='Name it by its number: parler_recv {"since":0} shows the numbers.',
        status=404,
    ),
    # -- files and code
    _E(
        "no_such_blob",
        "No message that you may see brings such a file or such code.",
        "Take the id from the message that brings it: `parler recv --all` shows it.",
        tool_hint='Take the id from the message that brings it: parler_recv {"since":0} shows it.',
        status=404,
    ),
    _E(
        "blob_too_large",
        "The file is larger than the home of the room takes.",
        "Share a smaller part of it, or for code name what the others have: `parler push --base REF`.",
        tool_hint="Share a smaller part of it, or for code name what the others have as base.",
        status=413,
    ),
    _E(
        "too_many_blobs",
        "The home of the room keeps as many bytes of files as it may.",
        "Ask whoever runs it to raise `[blob] total_bytes`.",
        tool_hint="Ask the person to raise `[blob] total_bytes` there.",
        action="ask_person",
        fault="home",
        scope="home",
        status=429,
    ),
    _E(
        "blob_mismatch",
        "What arrived is not what its id says.",
        "Share it again: the file may have changed meanwhile. If the error comes back, the disk or the relay changed "
        "bytes.",
        fault="peer",
    ),
    _E(
        "upload_unfinished",
        "The file is not here whole: its upload was not finished, or is another agent's.",
        "Share it again; the upload goes on where it stopped.",
        status=409,
    ),
    _E(
        "file_refused",
        "This file cannot be read or written by Parler.",
        "Name a regular file of yours, or a folder and a name that you may write.",
        tool_hint="Name a path inside your workspace, outside .git and settings folders.",
    ),
    _E(
        "target_exists",
        "What would be written is there already, with other content.",
        "Name another target, or add --force to replace it.",
        tool_hint="Name another target.",
        status=409,
    ),
    _E(
        "no_repository",
        "This folder is in no git repository that Parler can use.",
        "Run it in the work tree of a repository of yours.",
        tool_hint="This works in a window whose workspace is a git work tree.",
        status=404,
    ),
    _E(
        "no_such_ref",
        "This repository has no such commit.",
        "Run `git branch -a` and name a branch, a tag or the id of a commit.",
        tool_hint="Name a branch, a tag or the id of a commit that the workspace has.",
        status=404,
    ),
    _E(
        "shallow_repository",
        "A part of the history of this repository was never fetched, so nobody could use what it shares or takes.",
        "Fetch the rest first: git fetch --unshallow",
        tool_hint="Ask the person to fetch the rest first: git fetch --unshallow",
        status=409,
    ),
    _E(
        "nothing_to_push",
        "The base has everything already: there is no commit to share.",
        "Commit first, or add --worktree to take uncommitted changes along.",
        tool_hint='Commit first, or add "worktree":true to take uncommitted changes along.',
        status=409,
    ),
    _E(
        "bundle_refused",
        "What was shared is no bundle of commits that can be taken in.",
        "Ask its author to push it again with `parler push`; `what` names what is wrong with it.",
        tool_hint="Ask its author to share it again; `what` names what is wrong with it.",
        fault="peer",
    ),
    _E(
        "missing_base",
        "This repository lacks commits on which the shared code stands.",
        "Fetch them first, or ask its author to push without --base.",
        tool_hint="Fetch them first, or ask its author to share it without a base.",
        status=409,
    ),
    _E(
        "git_failed",
        "git could not do this.",
        "Run `git fsck` in the repository, and try again.",
        tool_hint="Ask the person to run `git fsck` in the repository.",
        fault="home",
        status=500,
    ),
    # -- reading
    _E(
        "cursor_ahead",
        "That acknowledges more than was delivered.",
        "Acknowledge the cursor of a page you received.",
        tool_hint="parler_rooms with action roster lists who is in the room.",
        scope="agent",
        status=409,
    ),
    _E("invalid_cursor", "That is not a cursor of this room.", "Use the cursor of a page you received."),
    # -- load
    # -- tokens
    _E(
        "token_required",
        "This needs a token.",
        "Send `Authorization: Bearer TOKEN`. The person gets a token with `parler token mint`.",
        action="reauthorize",
        scope="connection",
        status=401,
    ),
    _E(
        "token_invalid",
        "This token is not one, or it expired or was revoked.",
        "Ask the person for another one: `parler token mint`.",
        action="reauthorize",
        scope="connection",
        status=401,
    ),
    _E(
        "token_in_url",
        "A token stands in the address, where it is kept in histories and logs.",
        "Send it as `Authorization: Bearer TOKEN`, and ask the person to revoke this one: `parler token revoke ID`.",
        action="ask_person",
    ),
    _E(
        "needs_key",
        "What an agent signs with a key of its own cannot be done with a token at a relay.",
        "Do it as an agent of a machine that has Parler, or ask the person to.",
        action="ask_person",
        status=403,
    ),
    _E(
        "request_refused",
        "This door does not take such a request.",
        "Send plain HTTP/1.1: one Host, which is this door's own, one Content-Length, and a path without dots.",
        scope="connection",
    ),
    _E(
        "not_json",
        "Without a token a body is sent as JSON, which no form on a web page can send.",
        "Send the header `Content-Type: application/json`.",
        status=415,
    ),
    _E(
        "room_exists",
        "There is a room of that name.",
        "Come into that one, or choose another name.",
        status=409,
    ),
    _E(
        "agent_exists",
        "An agent of that name is in the room, and its token is the only way to act as it.",
        "Send its token, or choose another name. Where it is lost, the person mints another: `parler token mint`.",
        status=409,
    ),
    _E(
        "identity_mismatch",
        "The request names another agent than its token stands for.",
        "Leave the name out: who you are follows from the token.",
        status=403,
    ),
    _E(
        "no_such_token",
        "There is no token with this id.",
        "Ask the person: `parler token list` shows which tokens there are.",
        status=404,
    ),
    _E(
        "token_used_up",
        "As many agents came in with this token, or rooms were opened with it, as it was minted for.",
        "Ask the person for another one: `parler token mint`.",
        action="reauthorize",
        scope="connection",
        status=403,
    ),
    _E(
        "no_such_join",
        "Nobody asked to come in under this id with this token.",
        "Ask with the token that you came with, and the `id` that you were told.",
        status=404,
    ),
    _E(
        "too_many_tokens",
        "There is a limit to how many tokens one home may have.",
        "Ask the person to revoke those that nobody needs: `parler token revoke ID`.",
        status=429,
    ),
    _E(
        "watch_code_invalid",
        "This watch code is not one, or it was used, expired or was revoked.",
        "Ask the person who gave you the code for another one: `parler view --room ROOM`.",
        action="reauthorize",
        scope="connection",
        status=401,
    ),
    _E(
        "page_refused",
        "This page was asked for from elsewhere than a page of this home.",
        "Open it from the address that `parler view` prints on a terminal, in a browser that says where a request "
        "comes from.",
        scope="connection",
        status=403,
    ),
    _E(
        "no_such_watch_code",
        "There is no watch code with this id.",
        "Ask the person: `parler view --list` shows which watch codes there are.",
        status=404,
    ),
    _E(
        "too_many_watch_codes",
        "There is a limit to how many watch codes one home may have.",
        "Ask the person to revoke those that nobody needs: `parler view --revoke ID`.",
        status=429,
    ),
    _E(
        "throttled",
        "That was too much in too short a time.",
        "Wait a moment and try again.",
        action="back_off",
        retryable=True,
        scope="connection",
        status=429,
    ),
    _E(
        "busy",
        "Too many requests are under way on this connection.",
        "Wait for some of them to answer.",
        action="back_off",
        retryable=True,
        scope="connection",
        status=429,
    ),
    _E(
        "room_busy",
        "This room has more work waiting than it accepts.",
        "Try again in a moment.",
        action="back_off",
        retryable=True,
        scope="room",
        fault="home",
        status=429,
    ),
    # -- connection
    _E(
        "bad_frame",
        "That was not a valid frame.",
        "Speak the protocol of docs/protocol.md.",
        scope="connection",
    ),
    _E(
        "frame_too_large",
        "The frame is larger than the limit.",
        "Send less in one request.",
        scope="connection",
        status=413,
    ),
    _E(
        "unsupported_version",
        "The two sides speak different protocol versions.",
        "Run `parler daemon restart` with the newer install, or upgrade the older one, here or where the relay runs.",
        tool_hint="Ask the person to run `parler daemon restart` with the newer install, or to upgrade the older one, "
        "here or where the relay runs.",
        action="stop",
        scope="connection",
        fault="home",
        status=400,
    ),
    _E(
        "not_permitted",
        "The process on the other side belongs to another user.",
        "Each user has a daemon of their own.",
        action="stop",
        scope="connection",
        status=403,
    ),
    _E(
        "draining",
        "The daemon is about to restart.",
        "Try again; the next call waits for it.",
        action="retry",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "unreachable",
        "The daemon could not be reached.",
        "Run `parler doctor`, then `parler daemon logs`.",
        tool_hint="Ask the person to run `parler doctor`, then `parler daemon logs`.",
        action="retry",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "cancelled",
        "The caller withdrew this before it was answered.",
        "Nothing to do; a write may still have been stored, and the same key finds out.",
        scope="request",
        retryable=True,
        status=409,
    ),
    _E(
        "connection_lost",
        "The daemon went away while this was under way.",
        "Try again with the same idempotency key.",
        action="retry",
        fault="home",
        scope="connection",
        retryable=True,
        status=503,
    ),
    # -- the link to a relay
    _E(
        "offline",
        "The home of this room cannot be reached from here now.",
        "Try again when it can; messages are kept and sent then, and what is stored here can still be read.",
        action="back_off",
        fault="peer",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "outbox_full",
        "As many messages wait for this relay as may wait; this one was not kept.",
        "Try again with the same key once the relay can be reached.",
        action="back_off",
        fault="peer",
        scope="home",
        retryable=True,
        status=429,
    ),
    _E(
        "key_used_elsewhere",
        "Somebody else signs with a key of this home: the room holds a message, or a record of who can read it, that "
        "this home did not make.",
        "Ask the person whether this home was copied or its keys were. Nothing is sent there under this name any more.",
        action="ask_person",
        fault="person",
        scope="agent",
        status=409,
    ),
    _E(
        "home_unreachable",
        "The home of this room did not answer.",
        "Try again in a moment; what is stored here can still be read.",
        action="back_off",
        fault="peer",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "room_moved",
        "Another relay of this home serves the room now.",
        "Try again in a moment with the same key.",
        action="retry",
        fault="home",
        scope="room",
        retryable=True,
        status=503,
    ),
    _E(
        "relay_refused",
        "The relay refused this, for a reason that this version does not know.",
        "Upgrade Parler here, or ask whoever runs the relay: `said` names the reason.",
        action="ask_person",
        fault="peer",
        scope="home",
        status=503,
    ),
    _E(
        "proof_refused",
        "The relay did not accept the proof of this person's key.",
        "Try again. If it stays so, another program may stand between this home and the relay: run `parler doctor`.",
        tool_hint="Ask the person to run `parler doctor`: another program may stand between this home and the relay.",
        action="ask_person",
        fault="peer",
        scope="connection",
        status=503,
    ),
    _E(
        "proof_late",
        "The proof that the other end of a link waited for did not come in time.",
        "Try again in a moment. If it stays so, this machine or the network is too slow for links.",
        action="back_off",
        fault="peer",
        scope="connection",
        retryable=True,
        status=503,
    ),
    _E(
        "relay_failed",
        "The relay has trouble of its own, with its disk or in its program.",
        "Try again with the same key. If it stays so, tell whoever runs the relay: `said` names the trouble.",
        action="retry",
        fault="peer",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "relay_older",
        "The relay runs an older Parler, which cannot do this.",
        "Ask whoever runs the relay to upgrade it.",
        action="stop",
        fault="peer",
        scope="home",
        status=503,
    ),
    # -- the home and its store
    _E(
        "home_unsafe",
        "The home directory is not safe to use.",
        "Make it yours and private: chmod 700, no symlink.",
        action="ask_person",
        fault="home",
        scope="home",
        status=500,
    ),
    _E(
        "foreign_home",
        "HOME belongs to another user.",
        "Run it as that user, without sudo, or set HOME to your own.",
        action="ask_person",
        fault="person",
        scope="home",
        status=500,
    ),
    _E(
        "unsafe_program",
        "A program that agent hosts would start can be changed by other users.",
        "Take their permission to write away, as named, and run it again.",
        action="ask_person",
        fault="home",
        scope="home",
        status=500,
    ),
    _E(
        "host_not_installed",
        "The program of this agent host is not here.",
        "Install it, or put the folder that it is in on PATH.",
        action="ask_person",
        fault="person",
    ),
    _E(
        "host_not_connected",
        "This agent host does not know Parler yet.",
        "Run: parler connect HOST",
        action="ask_person",
        fault="person",
    ),
    _E(
        "host_not_startable",
        "This agent host has no such start with a first prompt.",
        "Start it yourself, and say to its agent the line that `parler session open` prints.",
        action="ask_person",
        fault="person",
    ),
    _E(
        "host_would_refuse",
        "Without a terminal this agent host asks nobody, and refuses its model Parler's tools.",
        "Run it without --headless, or first: parler connect HOST --allow",
        action="ask_person",
        fault="person",
    ),
    _E(
        "host_not_started",
        "The program of this agent host could not be started.",
        "Start it by hand once, and see what it says.",
        action="ask_person",
        fault="person",
        status=409,
    ),
    _E(
        "did_not_join",
        "The program ended, and its agent never came to the session.",
        "Look at what it printed, and run `parler doctor --probe HOST`.",
        action="ask_person",
        fault="peer",
        status=409,
    ),
    _E(
        "home_not_writable",
        "The home directory cannot be written.",
        "Check its owner, mode and disk, or set PARLER_HOME.",
        action="ask_person",
        fault="home",
        scope="home",
        status=500,
    ),
    _E(
        "invalid_settings",
        "A setting is not valid.",
        "Correct what is named, in settings.toml or in the environment.",
        action="ask_person",
        fault="person",
        scope="home",
        status=500,
    ),
    _E(
        "already_running",
        "Another daemon serves this home.",
        "Nothing to do; clients find it.",
        action="stop",
        fault="home",
        scope="home",
        status=409,
    ),
    _E(
        "store_full",
        "The disk is full; nothing was stored.",
        "Free some space and try again with the same key.",
        tool_hint="Ask the person to free some space, then try again with the same key.",
        action="ask_person",
        fault="home",
        scope="home",
        retryable=True,
        status=507,
    ),
    _E(
        "store_locked",
        "Another program holds the database.",
        "Close it and try again with the same key.",
        action="retry",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "store_readonly",
        "The database cannot be written.",
        "Check the mode and owner of the file and its folder.",
        action="ask_person",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "store_corrupt",
        "The database is damaged; nothing more is written to it.",
        "Run `parler doctor`; it names the newest backup and how to restore it.",
        tool_hint="Ask the person to run `parler doctor`: it names the newest backup and how to restore it.",
        action="ask_person",
        fault="home",
        scope="home",
        status=500,
    ),
    _E(
        "store_failed",
        "The database could not commit; nothing was stored.",
        "Try again with the same key; see `parler daemon logs`.",
        tool_hint="Try again with the same key. If it stays so, ask the person to look at `parler daemon logs`.",
        action="retry",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "store_unknown",
        "It is not known whether this was stored.",
        "Try again with the same key: what was stored is not stored twice.",
        action="retry",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "store_unreachable",
        "The database server cannot be reached; nothing was stored.",
        "Try again with the same key; the relay comes back by itself when the server does.",
        action="retry",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "store_busy",
        "The database has more to do than it can take now; nothing was stored.",
        "Try again in a moment with the same key.",
        action="back_off",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "store_of_another_relay",
        "This database belongs to another relay.",
        "Name the database of this relay, or an empty one. A relay that moves to another machine takes its folder "
        "along.",
        action="stop",
        fault="home",
        scope="home",
        status=500,
    ),
    _E(
        "store_in_use",
        "Another process serves this database as this relay now.",
        "Run each folder of a relay once. To add a relay, copy the folder `keys` of another one and nothing else.",
        action="ask_person",
        fault="home",
        scope="home",
        retryable=True,
        status=503,
    ),
    _E(
        "store_went_back",
        "The database is not in the state in which this relay last saw it: it was restored, or is another one.",
        "The person who runs the relay names the right database, or serves this one as it is: parler relay "
        "accept-restore. A room that lost something goes on once its owner runs `parler room rewind ROOM`.",
        action="ask_person",
        fault="home",
        scope="home",
        status=500,
    ),
    _E(
        "backup_elsewhere",
        "The rooms of this relay are in a PostgreSQL database, which is backed up with PostgreSQL's own tools.",
        "Use pg_dump, or pg_basebackup with an archive of the write-ahead log. Keep a copy of the relay's folder, too: "
        "its keys, certificates and files are there.",
        action="stop",
        fault="caller",
        scope="home",
        status=409,
    ),
    _E(
        "stale_position",
        "The log moved on while this was under way.",
        "Try again with the same key.",
        action="retry",
        fault="home",
        scope="room",
        retryable=True,
        status=409,
    ),
    _E(
        "newer_store",
        "The database was written by a newer Parler.",
        "Upgrade this install.",
        action="stop",
        fault="home",
        scope="home",
        status=500,
    ),
    _E(
        "store_driver_missing",
        "The store is in PostgreSQL, and what speaks to PostgreSQL is not installed.",
        "The person who runs the relay installs it with Parler: uv tool install 'parlerd[postgres]', "
        "pipx install --force 'parlerd[postgres]', or ./install.sh --postgres in a checkout.",
        action="ask_person",
        fault="person",
        scope="home",
        status=500,
    ),
    _E(
        "newer_log",
        "This room has facts of a newer Parler, so it is read-only here.",
        "Upgrade this install.",
        action="stop",
        fault="home",
        scope="room",
        status=500,
    ),
    _E(
        "internal",
        "Something went wrong inside Parler.",
        "It was logged; see `parler daemon logs`.",
        tool_hint="Tell the person: `parler daemon logs` has what happened.",
        action="stop",
        fault="home",
        scope="home",
        status=500,
    ),
)


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it travels: on the socket, in `--json`, in an MCP result."""

    code: str
    message: str
    action: str
    scope: str
    retryable: bool = msgspec.field(default=False)
    retry_after_ms: int | None = None
    hint: str | None = None
    example: str | None = None
    details: dict[str, Any] = {}


class ParlerError(Exception):
    """An error with a code from `ERRORS`. `details` hold ids, limits and candidates: never bodies or secrets."""

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        hint: str | None = None,
        tool_hint: str | None = None,
        example: str | None = None,
        retry_after_ms: int | None = None,
        **details: Any,
    ) -> None:
        self.spec = ERRORS[code]
        self.code = code
        self.message = message or self.spec.message
        self.hint = hint or self.spec.hint
        self.tool_hint = tool_hint or self.spec.tool_hint or self.hint
        self.example = example
        self.retry_after_ms = retry_after_ms
        self.details = details
        super().__init__(f"{code}: {self.message}")

    def body(self) -> ErrorBody:
        """The error in the form that travels."""
        return ErrorBody(
            code=self.code,
            message=self.message,
            action=self.spec.action,
            scope=self.spec.scope,
            retryable=self.spec.retryable,
            retry_after_ms=self.retry_after_ms,
            hint=self.hint,
            example=self.example,
            details=self.details,
        )

    @classmethod
    def from_body(cls, body: ErrorBody) -> ParlerError:
        """The error again, on the side that received it. A code that this version does not know keeps its name, and is
        treated as `internal`."""
        code = body.code if body.code in ERRORS else "internal"
        error = cls(
            code,
            body.message,
            hint=body.hint,
            example=body.example,
            retry_after_ms=body.retry_after_ms,
        )
        # The details are not passed as keywords: the other side chose their names, and a name may be a parameter's.
        error.details = dict(body.details)
        error.code = body.code
        return error


class Refused(ParlerError):
    """A rule of a room said no. Nothing changed."""


class StoreError(ParlerError):
    """The store could not do what was asked. Nothing was half done; `retryable` says whether the same call may work
    later."""
