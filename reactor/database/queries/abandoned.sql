-- Finds tokens that their holder cannot finish. It walks through a bounded part of the tokens in `generating`.
-- $1 tokens         integer           the most tokens to return
-- $2 lease          double precision  seconds; one value for a fleet
-- $3 renewed_every  double precision  seconds between renewals; a holder is overdue 2 s after one that did not come
-- $4 known          key[]             tokens that this worker holds, or has to leave alone
-- $5 own_keys       bigint[]          keys that this worker claimed under
-- $6 uptime         double precision  seconds that this worker has been running
-- $7 after          key               the walk begins after this key, and continues from the smallest
-- $8 held           integer           the most tokens in `generating` to walk through
-- Returns the tokens in the order of the walk, and one row without a token if there is none:
--   id, epoch
--   lease_ends_at  seconds since 1970, because a client's dates cannot hold every value. rescue.sql takes the token only
--                  if its lease still ends then
--   owner          own: the answer to our claim never reached us; dead: its worker died; foreign: another program left it
--                  without a lease, or with one longer than any worker's
--   last           in every row: the key of the last token of the walk; null if the walk saw all in `generating`
-- Leans on the partial index WHERE status = 'generating'. A role that may insert rows can insert any number that look
-- held, so a walk is bounded. $4 is hashed: it may hold thousands. Leases are read from the heap, to keep renewals HOT.
--
-- A token's holder is dead once the token's lease is over, and earlier if its renewal is overdue and its liveness lock
-- is free. A free lock alone is not enough, because a living worker loses the lock with its connection. If the worker's
-- key is negative, no proven listener holds its lock, so only the lease counts. Within 10 s of the server's start no
-- worker is dead, because the workers are not back yet.
--
-- Any role may take or wait for any advisory lock. A lock counts as a sign of life only if it is granted, exclusive,
-- and held by a role that may write the epoch, as a worker's may and a stranger's may not.
WITH alive AS MATERIALIZED (
  SELECT (held.classid::bigint << 32) | held.objid::bigint AS worker
  FROM pg_catalog.pg_locks AS held
  JOIN pg_catalog.pg_stat_activity AS holder ON holder.pid = held.pid
  WHERE held.locktype = 'advisory'
    AND held.objsubid = 1
    AND held.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND held.granted
    AND held.mode = 'ExclusiveLock'
    AND has_column_privilege(holder.usesysid, {relation}, 'generation_epoch', 'UPDATE')
),
behind AS MATERIALIZED (
  SELECT {key} AS key, generation_epoch, generation_worker, generation_lease_ends_at
  FROM {table} AS token
  WHERE status = {generating}
    AND {key} > $7::{key_type}
  ORDER BY {key}
  LIMIT $8::integer
),
before AS MATERIALIZED (
  SELECT {key} AS key, generation_epoch, generation_worker, generation_lease_ends_at
  FROM {table} AS token
  WHERE status = {generating}
    AND {key} <= $7::{key_type}
  ORDER BY {key}
  LIMIT $8::integer - (SELECT count(*) FROM behind)
),
walked AS MATERIALIZED (
  SELECT 1 AS part, key, generation_epoch, generation_worker, generation_lease_ends_at FROM behind
  UNION ALL
  SELECT 2 AS part, key, generation_epoch, generation_worker, generation_lease_ends_at FROM before
),
found AS (
  SELECT
    part,
    key,
    generation_epoch AS epoch,
    extract(epoch FROM generation_lease_ends_at)::double precision AS lease_ends_at,
    CASE
      WHEN generation_worker = ANY ($5::bigint[]) THEN 'own'
      WHEN generation_lease_ends_at < clock_timestamp() + interval '2 days' THEN 'dead'
      ELSE 'foreign'
    END AS owner
  FROM walked
  WHERE key NOT IN (SELECT id FROM unnest($4::{key_type}[]) AS known (id))
    AND (
      generation_worker = ANY ($5::bigint[])
      OR (
        coalesce(generation_lease_ends_at, 'infinity') > clock_timestamp() + interval '2 days'
        AND $6::double precision >= $2::double precision
      )
      OR (
        clock_timestamp() > pg_postmaster_start_time() + interval '10 seconds'
        AND (
          generation_lease_ends_at < clock_timestamp()
          OR (
            generation_worker > 0
            AND generation_lease_ends_at < clock_timestamp()
              + make_interval(secs => $2::double precision - $3::double precision - 2)
            AND generation_worker NOT IN (SELECT worker FROM alive)
          )
        )
      )
    )
  ORDER BY part, key
  LIMIT $1::integer
)
SELECT found.key AS id, found.epoch, found.lease_ends_at, found.owner, walk.last
FROM (
  SELECT CASE
    WHEN (SELECT count(*) FROM walked) = $8::integer
      THEN (SELECT key FROM walked ORDER BY part DESC, key DESC LIMIT 1)
  END AS last
) AS walk
LEFT JOIN found ON true
ORDER BY found.part, found.key;
