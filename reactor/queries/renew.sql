-- Renews the leases of everything a worker holds, in one statement.
-- $1 ids     uuid[]
-- $2 epochs  bigint[]          in the order of $1
-- $3 keys    bigint[]          the worker keys they were claimed under, in the order of $1
-- $4 lease   double precision  seconds from now
-- Returns id and renewed of what is still held; false: locked by somebody else for now. The others were lost.
-- Leans on the primary key. No index mentions the lease: the update stays HOT.
WITH claims AS (
  SELECT id, epoch, worker
  FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS given (id, epoch, worker)
),
held AS (
  SELECT token.{key} AS key
  FROM {table} AS token
  JOIN claims ON claims.id = token.{key}
  WHERE token.{key} = ANY ($1::uuid[])
    AND token.status = {generating}
    AND token.generation_epoch = claims.epoch
    AND token.generation_worker = claims.worker
  ORDER BY token.{key}
  FOR NO KEY UPDATE OF token SKIP LOCKED
),
renewed AS (
  UPDATE {table}
  SET generation_lease_ends_at = clock_timestamp() + make_interval(secs => $4::double precision)
  WHERE {key} = ANY (ARRAY(SELECT key FROM held))
  RETURNING {key} AS key
)
SELECT claims.id, renewed.key IS NOT NULL AS renewed
FROM claims
LEFT JOIN renewed ON renewed.key = claims.id
WHERE renewed.key IS NOT NULL
  OR (
    SELECT status = {generating} AND generation_epoch = claims.epoch AND generation_worker = claims.worker
    FROM {table}
    WHERE {key} = claims.id
  );
