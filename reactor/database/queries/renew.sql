-- Renews the leases of all tokens that a worker holds, in one statement.
-- $1 ids     key[]
-- $2 epochs  bigint[]          in the order of $1
-- $3 keys    bigint[]          the worker keys they were claimed under, with their sign (see leases.py), in the order of $1
-- $4 lease   double precision  seconds from now
-- Returns id and renewed; false: another transaction has the row locked for now. A token for which no row comes back was
-- lost to another worker.
-- Leans on the primary key. No index mentions the lease: the update stays HOT. The holder is compared as an expression,
-- as in record.sql.
WITH claims AS (
  SELECT id, epoch, worker
  FROM unnest($1::{key_type}[], $2::bigint[], $3::bigint[]) AS given (id, epoch, worker)
),
held AS (
  SELECT {key} AS key, CASE WHEN status = {generating} THEN generation_worker END AS holder
  FROM {table} AS token
  WHERE {key} = ANY ($1::{key_type}[])
  ORDER BY {key}
  FOR NO KEY UPDATE SKIP LOCKED
),
renewed AS (
  UPDATE {table} AS token
  SET generation_lease_ends_at = clock_timestamp() + make_interval(secs => $4::double precision)
  FROM claims
  JOIN held ON held.key = claims.id AND held.holder = claims.worker
  WHERE {key} = claims.id
    AND token.generation_epoch = claims.epoch
  RETURNING {key} AS key
)
SELECT claims.id, renewed.key IS NOT NULL AS renewed
FROM claims
LEFT JOIN renewed ON renewed.key = claims.id
WHERE renewed.key IS NOT NULL
  OR (
    SELECT status = {generating} AND generation_epoch = claims.epoch AND generation_worker = claims.worker
    FROM {table} AS token
    WHERE {key} = claims.id
  );
