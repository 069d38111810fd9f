-- Renews the leases of everything a worker holds, in one statement.
-- $1 ids     uuid[]
-- $2 epochs  bigint[]          in the order of $1
-- $3 keys    bigint[]          the worker keys they were claimed under, in the order of $1
-- $4 lease   double precision  seconds from now
-- Returns the ids that are still held; the others were lost.
-- Leans on the primary key. No index mentions the lease: the update stays HOT.
UPDATE {table} AS token
SET generation_lease_ends_at = clock_timestamp() + make_interval(secs => $4::double precision)
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS held (id, epoch, worker)
WHERE token.{key} = ANY ($1::uuid[])
  AND token.{key} = held.id
  AND token.status = {generating}
  AND token.generation_epoch = held.epoch
  AND token.generation_worker = held.worker
RETURNING token.{key} AS id;
