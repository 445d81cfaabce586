"""Who somebody is: keys and their text form, signatures, the key files of this user, codes that people type.

The only importer of PyNaCl. Leases (which window acts as which agent) live in the engine.
"""
