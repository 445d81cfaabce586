"""What is asked of the home of a room that lives elsewhere.

    room_home  the room's mirror and the link to its home: what all of these ask by, and how they wait for the mirror
    line       the line of what is asked here of the room: messages one after the other, everything else by itself
    errands    everything but a message: which command leads to what
      opening    a room is opened there
      knocking   an agent comes in
      deciding   what the room's person decides
      granting   agents without a key
      tasks      who does which task
      gating     a message that waits until somebody is shown it
    earlier    pages of the past that the mirror leaves out
    ladder     how far a message got
    questions  what the home answers by itself
    going_on   the room goes on after its home lost a part of it

    command -> decided over the mirror -> signed by its author -> the room's home decides again -> the mirror hears
            -> the caller is answered

The answer waits until the mirror holds what was done, so that the caller's next read shows it.

Not here: messages under way (`lanes`), the link (`link`), what is believed of an answer (`arriving`, `history`). Above:
`remote_room`. Below: `lanes`, `link`. Invariants: what the mirror refuses is asked of no other home; everything but a
message is done at once or refused, and never waits for a link; nor does the message that answers an offer of the turn.
"""
