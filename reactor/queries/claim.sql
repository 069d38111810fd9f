-- Claims tokens: due retries first, then fresh ones by mint order; never more than the gate lets through.
-- $1 slots            integer           tokens that can start now
-- $2 worker           bigint            the claimer's key
-- $3 lease            double precision  seconds
-- $4 create_interval  double precision  seconds between creates that the account's rate limit allows; 0: no limit
-- One or two more are in the statements that go on or choose: see TokensTable.query.
-- Returns one row per claimed token, in mint order: what an attempt needs.
-- Leans on the two partial indexes WHERE status = 'detected', and on the primary key. Retries are compared with now(): by the
-- volatile clock_timestamp() no index can be searched, and all retries would be read, however far from due.
--
-- A seed whose time is missing, ahead or absurd (set by hand, or the clock went back) was set all the same: as long ago as
-- the provider keeps what it could be found by, and more.
--
-- Whoever may insert a row may have written our columns. An epoch at its end could not be raised: such a token stays as it
-- is, outside of both indexes, so a flood of them costs a claim nothing. Attempts are counted from 0 to 1000, which is
-- more than MAX_ATTEMPTS can be. No other value makes a token impossible to claim.
--
-- An arrival_at more than five minutes ahead is a clock error or was set by hand: it counts as now. So does any pause_seconds
-- outside of 1 to 60, NaN included, as the nearer of the two.
--
-- A lower limit of the account (limit_interval) is kept with 2 % to spare, because requests do not arrive as evenly as they
-- are claimed.
--
-- The gate's row is locked only where tokens were found and there is something to book: half-open it moves on by
-- pause_seconds, so that of all workers one gets one token per interval; a rate limit counts the creates (GCRA, a burst
-- of ten seconds' worth). The snapshot's gate only says whether to look for tokens. How many are admitted is computed
-- under the lock, from the row as it then is: of workers that claim at once none spends what another has spent.
--
-- Half-open, a fresh token goes before a retry, and the retry that waits longest before the others: the token that failed
-- as the last probe has another's turn before its own. An operator's pause whose time is over is not half-open, but open.
WITH gate AS (
  SELECT
    CASE WHEN half_open THEN 1 ELSE $1::integer END AS slots,
    half_open,
    every,
    paused_until IS NOT NULL OR every > 0 AS guarded
  FROM reactor.intake
  CROSS JOIN LATERAL (
    SELECT
      paused_until IS NOT NULL AND opens_on IS DISTINCT FROM 'time' AS half_open,
      greatest($4::double precision, CASE WHEN limited_until > clock_timestamp() THEN 1.02 * least(60, limit_interval) END) AS every
  ) AS pace
  WHERE (paused_until IS NULL OR paused_until <= clock_timestamp())
    AND greatest(CASE WHEN arrival_at < clock_timestamp() + interval '5 minutes' THEN arrival_at END, clock_timestamp())
      <= clock_timestamp() + make_interval(secs => greatest(10, every) - every)
),
retries AS (
  SELECT {key} AS key
  FROM {table}
  WHERE status = {detected} AND generation_due_at IS NOT NULL AND generation_due_at <= now()
    AND generation_epoch < 9223372036854775807
    {of_retries}
  ORDER BY generation_due_at, {key}
  LIMIT coalesce((SELECT slots FROM gate), 0)
  FOR NO KEY UPDATE SKIP LOCKED
),
fresh AS (
  SELECT {key} AS key, {order} AS position
  FROM {table}
  WHERE status = {detected} AND generation_due_at IS NULL
    AND generation_epoch < 9223372036854775807
    {of_fresh}
  ORDER BY {order}, {key}
  LIMIT coalesce((SELECT slots FROM gate), 0) - CASE WHEN (SELECT half_open FROM gate) THEN 0 ELSE (SELECT count(*) FROM retries) END
  FOR NO KEY UPDATE SKIP LOCKED
),
found AS (
  SELECT key FROM fresh WHERE (SELECT half_open FROM gate)
  UNION ALL
  SELECT key FROM retries
  UNION ALL
  SELECT key FROM fresh WHERE NOT (SELECT half_open FROM gate)
),
locked AS (
  SELECT
    paused_until IS NOT NULL AND opens_on IS DISTINCT FROM 'time' AS half_open,
    CASE WHEN paused_until IS NOT NULL THEN coalesce(opens_on, 'create') END AS opens_on,
    greatest(
      CASE WHEN arrival_at < clock_timestamp() + interval '5 minutes' THEN arrival_at END, clock_timestamp()
    ) AS arrival_at
  FROM reactor.intake
  WHERE (SELECT guarded FROM gate)
    AND EXISTS (SELECT FROM found)
    AND (paused_until IS NULL OR paused_until <= clock_timestamp())
  FOR NO KEY UPDATE
),
admitted AS (
  SELECT
    half_open,
    CASE WHEN half_open THEN opens_on END AS probe,
    arrival_at,
    CASE
      WHEN half_open THEN 1
      -- Without a limit the division is null, and the least of the others counts.
      ELSE greatest(0, least((SELECT count(*) FROM found), floor(0.001 + (
        greatest(10, every) - greatest(0, extract(epoch FROM arrival_at - clock_timestamp()))
      ) / nullif(every, 0))))
    END::integer AS tokens
  FROM locked, (SELECT every FROM gate) AS pace
),
booked AS (
  UPDATE reactor.intake
  SET
    paused_until = CASE
      WHEN admitted.half_open THEN clock_timestamp() + make_interval(secs => least(60, greatest(1, intake.pause_seconds)))
    END,
    arrival_at = admitted.arrival_at + make_interval(secs => (SELECT every FROM gate) * admitted.tokens)
  FROM admitted
  WHERE admitted.tokens > 0
),
claimed AS (
  UPDATE {table} AS token
  SET
    status = {generating},
    generation_epoch = generation_epoch + 1,
    generation_worker = $2::bigint,
    generation_lease_ends_at = clock_timestamp() + make_interval(secs => $3::double precision),
    generation_due_at = NULL,
    generation_attempts = CASE WHEN generation_due_at IS NULL THEN 0 ELSE least(1000, greatest(0, generation_attempts)) END,
    generation_rescues = CASE WHEN generation_due_at IS NULL THEN 0 ELSE greatest(0, generation_rescues) END,
    generation_censored = generation_due_at IS NOT NULL AND generation_censored,
    generation_error = CASE WHEN generation_due_at IS NOT NULL THEN generation_error END,
    generation_prediction_id = CASE WHEN generation_due_at IS NOT NULL THEN generation_prediction_id END,
    generation_seed = CASE
      WHEN generation_due_at IS NOT NULL AND generation_seed IS NOT NULL THEN generation_seed
      ELSE floor(random() * 2147483648)::integer
    END,
    generation_seeded_at = CASE
      WHEN generation_due_at IS NULL OR generation_seed IS NULL THEN now()
      WHEN generation_seeded_at > now() - interval '1 year' AND generation_seeded_at < now() THEN generation_seeded_at
      ELSE now() - interval '2 hours'
    END
  WHERE {key} = ANY (ARRAY(
    SELECT key
    FROM found
    LIMIT CASE WHEN (SELECT guarded FROM gate) THEN coalesce((SELECT tokens FROM admitted), 0) END
  ))
  RETURNING
    {key} AS id,
    {number} AS token_id,
    generation_epoch AS epoch,
    {prompt} AS prompt,
    generation_attempts AS attempts,
    generation_censored AS censored,
    generation_seed AS seed,
    generation_seeded_at AS seeded_at,
    generation_seeded_at < now() AS seed_was_set,
    CASE WHEN octet_length(generation_prediction_id) <= 200 THEN generation_prediction_id END AS prediction_id,
    CASE
      WHEN generation_epoch = 1 AND isfinite(created_at)
        THEN greatest(0, extract(epoch FROM clock_timestamp() - created_at))::double precision
    END AS age,
    {order} AS position
)
SELECT
  id, token_id, epoch, prompt, attempts, censored, seed, seeded_at, seed_was_set, prediction_id, age,
  (SELECT probe FROM admitted) AS probe,
  coalesce((SELECT tokens FROM admitted) < (SELECT count(*) FROM found), false) AS limited,
  (
    SELECT key
    FROM fresh
    WHERE fresh.position IS NOT NULL
    ORDER BY fresh.position DESC, key DESC
    LIMIT 1
  ) AS last_fresh
FROM claimed
ORDER BY position, id;
