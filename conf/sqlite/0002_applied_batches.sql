-- Batches of counts that are in the tables, by their token: a batch that comes again after a crash
-- is not added again. Old tokens are forgotten once no process can still send them.
CREATE TABLE applied_batches (
    token TEXT NOT NULL PRIMARY KEY,
    applied_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX applied_batches_by_time ON applied_batches (applied_at);
