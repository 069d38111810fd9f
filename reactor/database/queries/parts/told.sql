-- What only the attempt can tell, from the JSON object `history`: an item of FROM. See accounting.py.
-- claimed_ago and bought_ago are seconds, because only the database's clock gives times.
LATERAL (
    SELECT
      clock_timestamp() AS ended_at,
      clock_timestamp() - make_interval(secs => claimed_ago) AS claimed_at,
      clock_timestamp() - make_interval(secs => bought_ago) AS bought_at,
      outcome, attempt, censored, error_type, model, predict_seconds, images, cost, web_url
    FROM jsonb_to_record(history::jsonb) AS given (
      outcome text, claimed_ago double precision, bought_ago double precision, attempt integer, censored boolean,
      error_type text, model text, predict_seconds double precision, images integer, cost numeric, web_url text
    )
  ) AS told
