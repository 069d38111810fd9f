"""The gate: whether the fleet may claim. Its one row is the table `reactor.intake`.

gate.py        closes and opens it when attempts show how the account and the model are
gate_store.py  the statements about its row
inspector.py   looks at it every 10 s, and checks a refused API token
announcer.py   logs each change once
breaker.py     counts failures in a row; rests this worker if it alone does not reach the provider
blame.py       whether a failure counts as an attempt of its token
checks.py      when a refused API token is checked again
"""
