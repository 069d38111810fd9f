-- Sums up what a page of tokens shows, so that a reader sees whether to look again: claims ring no channel.
-- $1 rows  integer  tokens under way to look at
-- Returns one row: mark, a text that is another one after a mint, a claim, a settle, or a change of the gate.
-- Leans on the partial indexes of held and fresh tokens, each read from one end.
SELECT concat_ws(
  ' ',
  (
    SELECT sum(hashtextextended(concat(key, ' ', epoch), 0))
    FROM (
      SELECT {key} AS key, token.generation_epoch AS epoch
      FROM {table} AS token
      WHERE status = {generating}
      ORDER BY {key}
      LIMIT (SELECT $1::integer)
    ) AS held
  )::text,
  (
    SELECT left({key}::text, 100)
    FROM {table} AS token
    WHERE status = {detected} AND generation_due_at IS NULL
      AND {claimable}
    ORDER BY {order} DESC, {key} DESC
    LIMIT 1
  ),
  (SELECT concat(paused_until, ' ', opens_on, ' ', left(reason, 100)) FROM reactor.intake)
) AS mark;
