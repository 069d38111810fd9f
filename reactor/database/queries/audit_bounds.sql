-- Reads the times between which an audit looks.
-- $1 since  double precision  seconds to look back
-- Returns now, since, and history_since, when the oldest entry of the history ended; null: there is none.
-- Leans on the history's index of ended_at.
SELECT
  now() AS now,
  now() - make_interval(secs => $1::double precision) AS since,
  (SELECT min(ended_at) FROM reactor.attempts) AS history_since;
