"""git, run without running anybody's commands: commits become a bundle, and a bundle becomes a ref of a repository.

    pushing   --> worktree (uncommitted changes), scratch --> running --> git
    applying  --> bundles (the header of one)   --'

Whoever calls runs git: the command line in its person's shell, the daemon in a window's own workspace. Not here: where
a bundle goes or comes from (blobs), or who may have it. Above: `parlerd.cli` and `parlerd.engine`. Below: the table of
errors. Invariants: no hook, filter, monitor, transport or helper that a repository names is run; nothing of a
repository is changed but one ref below `refs/parler/` and the pack that this ref needs. Source: the recipe of section
4, and the security spec 14, whose experiments are tests (`tests/git/test_hostile.py`).
"""
