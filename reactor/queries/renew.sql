-- Renews the leases of everything a worker holds, in one statement.
-- $1 ids     uuid[]
-- $2 epochs  bigint[]          in the order of $1
-- $3 keys    bigint[]          the worker keys they were claimed under, in the order of $1
-- $4 lease   double precision  seconds from now
-- Returns the ids that are still held; the others were lost.
-- Leans on the primary key. No index mentions the lease: the update stays HOT. Rows are locked in key order, as by a
-- settle, so that the two cannot deadlock.
WITH held AS (
  SELECT token.{key} AS key
  FROM {table} AS token
  JOIN unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS claim (id, epoch, worker) ON claim.id = token.{key}
  WHERE token.{key} = ANY ($1::uuid[])
    AND token.status = {generating}
    AND token.generation_epoch = claim.epoch
    AND token.generation_worker = claim.worker
  ORDER BY token.{key}
  FOR NO KEY UPDATE OF token
)
UPDATE {table}
SET generation_lease_ends_at = clock_timestamp() + make_interval(secs => $4::double precision)
WHERE {key} = ANY (ARRAY(SELECT key FROM held))
RETURNING {key} AS id;
