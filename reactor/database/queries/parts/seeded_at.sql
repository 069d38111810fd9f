-- The time of the seed that a token keeps: an expression.
-- A seed with a missing, future or year-old timestamp still counts as set. Treat it as two hours old, longer than the
-- provider keeps predictions.
CASE
  WHEN generation_seed IS NULL THEN now()
  WHEN generation_seeded_at > now() - interval '1 year' AND generation_seeded_at < now() THEN generation_seeded_at
  ELSE now() - interval '2 hours'
END
