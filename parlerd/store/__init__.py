"""Where facts, cursors, marks, leases and snapshots are kept.

    port         the protocol of every store, which one contract suite checks
    sqlite       the store in one file, over `database` (connections, errors) and `upgrade` (the file's shape)
    postgres     the store in a PostgreSQL database, for relays
    memory       the store without a disk, for tests
    staging      from facts to rows: checks, digests, the chain; every store uses it
    indexing     every index, declared once for all stores; `statements` makes SQL of the declarations
    numbering    a reader's own numbers; every store uses it
    batching     what the jobs of a transaction write; `paging` messages as a reader sees them; `judging` whether rows
                 can be what was written; `checking` what is wrong with a store; `peeking` a little of headers of any
                 version: the two stores over SQL use these
    memo         answers that are remembered until a commit changes them

Above: the engine. Below: the core. Invariant: no other package imports a database driver.
"""
