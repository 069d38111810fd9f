-- Closes the gate on an operator's word, whatever it is closed for already.
-- $1 reason  text
-- Returns one row: the reason.
-- Without end and without seconds: that is the operator's mark. An automatic pause has at least one second, is never
-- longer than without end, and so takes no operator's place; what opens by itself (open_intake.sql) leaves this alone.
UPDATE reactor.intake
SET paused_until = 'infinity', pause_seconds = 0, reason = $1::text
RETURNING reason;
