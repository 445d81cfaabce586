"""What a home elsewhere told of a room, judged, and turned into what the room's mirror takes in.

    items       one item of the link, its parts in order
    cards       how the room stands: what it was opened as, then
      owners    whose it is
      knocks    its session keys, who knocked, and what was decided
      members   who is in it
      records   who can read it, where it is sealed
    tasks       how tasks stand
    pages       what is said in it
    hearing     the mirror, with what was found so far of the item: what all of these judge by, and add to
    statements  what a home told, alone: a signed statement, a label
    messages    one message that a home told, alone
    opener      what opens that which is sealed

Nothing that the other home says is believed that somebody's signature can show:

    whose a room is    by its opening, which the person signed, or the home within a grant of the person's: not after
                       its end, and no more rooms than it says, as far as they are known here
    who a member is    by the room's opening, by a signed decision, or by a knock with a key of signed terms. A member
                       without a proof is left out, and so are its words. An agent of this home is in no room at which
                       it did not knock itself.
    who said what      by the author's signature over the envelope, which has to be for this room and in order; or, of
                       an agent that has no key, by the home's own, within the grant by which that agent is a member.
                       That an action was invoked, the home says itself, and it is taken in as that: unsigned
    who can read it    in a sealed room, by the records of its epochs, which the owner's person signed, each of which
                       names the one before. A message has to name the record that is in force where it stands or, where
                       it waited, one before that
    that nothing is    by the public line, which each page and each envelope states, and by each author's threads
    missing            within the messages that this home is shown
    whose a name is    a handle means one agent for good

Where two of these contradict each other, or contradict what the mirror holds, the other home has lied: it admits a
message only after the same checks. The room's mirror then gets one fact that says so (`HomeContradicted`), and takes
nothing in any more. What an honest home may do is never such a contradiction: it may tell again what it told, begin
later, leave out what was erased, tell a member's proof late, and be of a newer version.

Pure: no clock, no store; what the store knows of the past is handed over (`hearing.Past`, asked for as `items.wanted`
says). Above: `mirrors`, and for what is told and not taken in `history`, `rosters`, `walking`. Below: the core's
statements, words and public line, and `identity` for what signatures prove. Invariants: of an honest home nothing is
called a contradiction; what is taken in as a member's words bears that member's signature, and nothing is taken in
unsigned but what a home says of an invocation.
"""
