-- Dispatch shards: one row of leader for each shard, with an epoch of its own. A shard's row is made when it is first led.

-- The shard of a queue. src/taskd/domain/shard.py says the same.
CREATE FUNCTION taskd.shard_of(queue text, shards int) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN shards = 1 THEN 0
           ELSE (('x' || encode(substr(sha256(convert_to(queue, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint % shards)::int END
$$;

ALTER TABLE taskd.leader DROP COLUMN only_row;
ALTER TABLE taskd.leader
    ADD COLUMN shard  smallint NOT NULL DEFAULT 0 CHECK (shard BETWEEN 0 AND 63),
    ADD COLUMN shards smallint NOT NULL DEFAULT 1 CHECK (shards BETWEEN 1 AND 64), -- how many the holder counts
    ADD PRIMARY KEY (shard),
    ADD CHECK (shard < shards);
ALTER TABLE taskd.leader ALTER COLUMN shard DROP DEFAULT, ALTER COLUMN shards DROP DEFAULT;
-- Workers of the version before ask for the epoch by this column, and go on while they are replaced.
ALTER TABLE taskd.leader ADD COLUMN only_row boolean GENERATED ALWAYS AS (shard = 0) STORED;
