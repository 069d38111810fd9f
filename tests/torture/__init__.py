"""Real processes, killed and stopped by a seeded plan, and an audit of what is left in the database and the ledger.

plan.py       what is minted and what goes wrong, and when: the same for the same seed
profiles.py   how long a torture is, and how hard
processes.py  programs that end when the torture ends
proxy.py      the links between workers and the database, which can go half-open
producer.py   the backend that mints, and measures its own commits
questions.py  what the harness asks the database
history.py    every write to a token, kept by a trigger of ours
house.py      database, provider, workers and producer together
violence.py   carries out the events of the plan
audit.py      tokens, history and the provider's ledger, joined
accounts.py   what `reactor audit` and `status` say of it, compared with the ledger
rescues.py    from `kill -9` to the token running again
report.py     the figures, for a terminal
"""
