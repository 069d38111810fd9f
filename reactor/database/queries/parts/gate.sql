-- The gate as the snapshot shows it: how many tokens to look for; no row if it lets no token through.
-- It is read without a lock. How many tokens pass is computed under the lock: see admission.sql.
-- permitted: our role has every privilege that the rest of the work needs, because what is claimed must be settled.
-- guarded: something has to be booked, because the gate is half-open or there is a rate limit.
-- Row security that hides all authors closes the gate too, because tokens without a prompt would fail. So does row
-- security that hides the history, because no attempt could end.
gate AS (
  SELECT
    CASE WHEN half_open THEN 1 ELSE $2::integer END AS slots,
    half_open,
    paused_until IS NOT NULL OR every > 0 AS guarded
  FROM reactor.intake
  CROSS JOIN {parts/pace}
  WHERE (paused_until IS NULL OR paused_until <= clock_timestamp())
    AND arrives_at <= clock_timestamp() + make_interval(secs => greatest(10, every) - every)
    AND {permitted}
    AND NOT EXISTS (
      SELECT
      FROM pg_catalog.pg_class AS restricted
      WHERE oid IN (to_regclass({authors_relation}), to_regclass('reactor.attempts'))
        AND row_security_active(oid)
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = restricted.oid AND polcmd IN ('*', 'r'))
    )
)
