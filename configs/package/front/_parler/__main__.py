"""`python -m _parler NAME ARGUMENT...`: start the program of that name."""

import sys

from . import PROGRAMS, run

if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
    sys.argv[:2] = [sys.argv[1]]
    run(sys.argv[0])
else:
    sys.exit(f"usage: python -m _parler {'|'.join(PROGRAMS)} [ARGUMENT ...]")
