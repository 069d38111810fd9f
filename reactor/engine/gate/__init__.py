"""The gate: whether the fleet may claim. Its one row is the table `reactor.intake`: see migrations/schema.py.

Attempts close it (gate.py), and so do a spent budget (queries/parts/spend.sql) and an operator (`reactor pause`). Each
claim reads it by queries/parts/gate.sql. It is one of three things that stop claims:

    the gate is closed        the whole fleet       gate.py
    a worker rests            that worker           breaker.py: it alone does not reach the provider
    a privilege is missing    all of that role      queries/parts/gate.sql; engine/rights.py logs it

gate.py        closes and opens it when attempts show how the account and the model are
gate_store.py  the statements about its row
inspector.py   looks at it every 10 s: checks a refused API token, opens it for a larger budget
announcer.py   logs each change once
breaker.py     counts failures in a row; rests this worker if it alone does not reach the provider
blame.py       whether a failure counts as an attempt of its token
checks.py      when a refused API token is checked again
"""
