"""What happens to a claimed token.

attempts.py      the running attempts, a task for each slot in use
attempt.py       one attempt, from the claim to its outcome
purchase.py      buys at most one prediction for a seed
outcome.py       the outcome table: what an error does to the token
token_events.py  the events of an attempt, for the log and the metrics
"""
