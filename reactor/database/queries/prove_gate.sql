-- Forgets that an API token was refused, because a create with it was accepted and the gate is open.
-- $1 token  text  its mark
-- Returns nothing. Another token's mark stays: this token's success says nothing about it.
UPDATE reactor.intake
SET refused_token = NULL, check_wait = NULL, check_at = NULL
WHERE refused_token = $1::text AND paused_until IS NULL;
