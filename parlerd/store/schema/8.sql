-- Schema 8. What rooms remember, by its words. All of it is an index: it follows from the facts and the bodies.

-- The messages that remember something, by their ids as in `bodies`. `current` is 0 for a version that another followed.
CREATE TABLE remembered (
    id       INTEGER PRIMARY KEY,
    log      INTEGER NOT NULL GENERATED ALWAYS AS (id >> 32),
    position INTEGER NOT NULL GENERATED ALWAYS AS (id & 4294967295),
    current  INTEGER NOT NULL
) STRICT;

-- The words of those that are current; the rowid is the id. The text is folded before it comes here.
CREATE VIRTUAL TABLE remembered_words USING fts5 (
    words, content = '', columnsize = 0, tokenize = "unicode61 remove_diacritics 0"
);
