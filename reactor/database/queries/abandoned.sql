-- Finds tokens that their holder cannot finish, among a bounded number of those that are held.
-- $1 tokens         integer           so many at most
-- $2 lease          double precision  seconds; one value for a fleet
-- $3 renewed_every  double precision  seconds between renewals; two more without one, and a holder is overdue
-- $4 known          uuid[]            what this worker holds, or has to leave alone
-- $5 own_keys       bigint[]          keys that this worker claimed under
-- $6 uptime         double precision  seconds that this worker has been running
-- $7 after          uuid              the look begins behind this key, and goes on from the front
-- $8 held           integer           tokens in `generating` to look at
-- Returns id, epoch, lease_ends_at as seen (rescue.sql takes what still is so; as seconds since 1970, which hold what no
-- client's dates do), and owner: 'own' (a claim whose answer we never got), 'foreign' (left by another program without a
-- lease, or with one that is longer than any worker's), 'dead'. In the order of the walk. Each row, of which there is at
-- least one, also says `last`: the key of the last token that was looked at, null if that was all of them.
-- Leans on the partial index WHERE status = 'generating'. Whoever may insert rows may insert any number that look held, so
-- one look is bounded. $4 is hashed: it may hold thousands. Lease times are read from the heap, to keep renewals HOT.
--
-- The lease decides, the liveness lock only accelerates: a lock is lost with its connection while its holder lives, so
-- it counts only where the renewal is overdue too, and not within 10 s of a restart, when nobody has a lock.
--
-- Any role may take or wait for any advisory lock. A lock counts as life only if it is held, exclusively, by a role that
-- may write the epoch: a worker's, not a stranger's.
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
  FROM {table}
  WHERE status = {generating}
    AND {key} > $7::uuid
  ORDER BY {key}
  LIMIT $8::integer
),
before AS MATERIALIZED (
  SELECT {key} AS key, generation_epoch, generation_worker, generation_lease_ends_at
  FROM {table}
  WHERE status = {generating}
    AND {key} <= $7::uuid
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
  WHERE key NOT IN (SELECT id FROM unnest($4::uuid[]) AS known (id))
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
