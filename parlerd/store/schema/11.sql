-- Schema 11. The index of what rooms remember keeps no places of words, which made it read whole lists of texts, and has
-- the beginnings of words, which it looked for through all words that begin so.

DROP TABLE remembered_words;

-- By terms that Parler makes of the text (`parlerd/core/recall`), so the tokenizer is to leave each of them whole: that of
-- ASCII takes every other character for a letter. A beginning of two to four letters is a list of its own.
CREATE VIRTUAL TABLE remembered_words USING fts5 (
    words, content = '', columnsize = 0, detail = none, tokenize = 'ascii', prefix = '2 3 4'
);

-- Whether a row is in that index. Those from before are put in a little at a time, so that a home with very many of them
-- does not wait for it.
ALTER TABLE remembered ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX remembered_to_index ON remembered (id) WHERE NOT indexed AND current;
