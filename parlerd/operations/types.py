"""The shapes of every operation under one name: `from parlerd.operations import types as t`, then `t.Send`.

Every module outside this package names a shape in this way, so a shape may move to another family without touching
its users, and so a family's name (`rooms`, `messages`) stays free for what a program holds. Import contracts keep
everyone else out of the families. Nothing is declared here.
"""

from __future__ import annotations

from parlerd.operations.entry import *
from parlerd.operations.families.actions import *
from parlerd.operations.families.affordances import *
from parlerd.operations.families.agents import *
from parlerd.operations.families.approvals import *
from parlerd.operations.families.board import *
from parlerd.operations.families.bringing import *
from parlerd.operations.families.daemon import *
from parlerd.operations.families.directory import *
from parlerd.operations.families.files import *
from parlerd.operations.families.handoff import *
from parlerd.operations.families.homes import *
from parlerd.operations.families.hosts import *
from parlerd.operations.families.joins import *
from parlerd.operations.families.link import *
from parlerd.operations.families.membership import *
from parlerd.operations.families.memory import *
from parlerd.operations.families.messages import *
from parlerd.operations.families.modules import *
from parlerd.operations.families.pages import *
from parlerd.operations.families.receipts import *
from parlerd.operations.families.relay import *
from parlerd.operations.families.rooms import *
from parlerd.operations.families.sessions import *
from parlerd.operations.families.sharing import *
from parlerd.operations.families.state import *
from parlerd.operations.families.tokens import *
from parlerd.operations.families.visitors import *
from parlerd.operations.families.wake import *
from parlerd.operations.families.window import *
from parlerd.operations.families.work import *
from parlerd.operations.shared import *
