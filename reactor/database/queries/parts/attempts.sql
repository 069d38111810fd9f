-- The columns of an entry in the history, in the order in which statements give their values.
reactor.attempts (
    tokens_table, key, token_id, epoch, worker, seed, prediction_id, outcome, error, claimed_at, bought_at, ended_at,
    attempt, censored, error_type, model, predict_seconds, images, cost, web_url
  )
