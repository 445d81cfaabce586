-- Schema 9. Until when claims of tasks were renewed. A row is no index: no fact says what it says, because a worker
-- renews its claim three times in each lease. The row of a claim that ended is deleted with the fact that ended it.

-- `fence` is the number of the claim. A row of another claim than the task's newest says nothing.
CREATE TABLE renewals (
    room  TEXT    NOT NULL,
    task  TEXT    NOT NULL,
    fence INTEGER NOT NULL CHECK (fence > 0),
    until INTEGER NOT NULL CHECK (until >= 0),
    PRIMARY KEY (room, task)
) STRICT, WITHOUT ROWID;
