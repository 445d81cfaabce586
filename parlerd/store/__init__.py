"""Where facts, cursors, marks, leases and snapshots are kept.

    port         the protocol of every store, which one contract suite checks
    sqlite       the store in one file, over `database` (connections, errors) and `upgrade` (the file's shape)
    memory       the store without a disk, for tests
    staging      from facts to rows: checks, digests, the chain; both stores use it
    indexing     every index, declared once for all stores; `statements` makes SQL of the declarations
    numbering    a reader's own numbers; both stores use it
    memo         answers that are remembered until a commit changes them

Above: the engine. Below: the core. Invariant: no other package imports a database driver.
"""
