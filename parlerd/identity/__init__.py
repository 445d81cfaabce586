"""Who somebody is: keys and their text form, signatures, the key files of this user, codes that people type.

    nkeys        the text form of a key
    signatures   signing and checking, each signature for one purpose
    keyring      the key files of this user
    relay_keys   the key of a relay
    home_secret  the secret from which codes are made
    keyfiles     files that only this user may read
    proofs       what signed statements prove of a room's members
    delegation   the text by which a person lets an agent's key act
    sealing      the words of sealed messages (`sealed_files`: their files; `epochs`: the secrets of members)
    pake         a short secret between two ends becomes a strong one
    codes        session keys, join codes, fingerprints and join secrets, as people read and type them
    transcript   what the two ends of a link prove to each other

Not here: leases (which window acts as which agent), which live in the engine. Above: the engine. Below: the core.
Invariant: no other package imports PyNaCl, so private keys are handled in this one place.
"""
