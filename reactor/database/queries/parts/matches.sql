-- Whether a token matches a filter: an expression.
-- $3 matching  text              a part of its error, in either case; or its whole number or key; null: any
-- $4 since     double precision  seconds since its mint or since the claim that meant to buy last; null: any
-- It is no LIKE, so no character of $3 has a special meaning. Only ASCII is compared in either case.
(
  $3::text IS NULL
  OR strpos(lower(left(token.generation_error::text, 4000) COLLATE "C"), lower($3::text COLLATE "C")) > 0
  OR {number_column}::text = $3::text
  OR {key}::text = $3::text
)
AND (
  $4::double precision IS NULL
  OR greatest({minted_at}, token.generation_seeded_at) > now() - make_interval(secs => least($4::double precision, 1e9))
)
