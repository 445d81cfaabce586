"""Who somebody is: keys and their text form, signatures, the key files of this user, codes that people type.

    nkeys        the text form of a key
    signatures   signing and checking, each signature for one purpose
    keyring      the key files of this user
    delegation   the text by which a person lets an agent's key act
    transcript   what the two ends of a link prove to each other
    codes        session keys, join codes and fingerprints, as people read and type them

Not here: leases (which window acts as which agent), which live in the engine. Above: the engine. Below: the core.
Invariant: no other package imports PyNaCl, so private keys are handled in this one place.
"""
