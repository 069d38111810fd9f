"""All that we send to PostgreSQL.

store.py         one short method for each query of a worker
queries/         the queries, one file each
table.py         fills the names of the tokens table into a query
shape.py         maps our needs to a table that is there
discovery.py     finds the tokens table, and refuses one that cannot be served
privileges.py    what a worker's role needs; rights.py looks what it has
counts.py        counts tokens by status, also in large tables
accounting.py    what an attempt tells the history about itself and its purchase
rows.py          turns rows into claims, and outcomes into parameters
session.py       a connection that reopens by itself
connections.py   what we set on a connection; the errors that statements raise (sqlstates.py has their codes)
driver_words.py  the words of an error, cut to what may be told
timings.py       how long we wait for a connection, and how long we keep it
poolers.py       notices a pooler that does not show itself
reach.py         opens a connection to the first host of a URL that serves
target.py        takes a URL apart; parameters.py says what becomes of each parameter
tls.py           TLS, as libpq does it; libpq_files.py reads its files of passwords and services
listening.py     keeps one LISTEN alive as long as somebody waits
shared.py        an answer that all who ask at about the same time share
availability.py  whether the database answers; shared by a worker's connections
search_path.py   which schemas our statements may look into
channels.py      the names of the NOTIFY channels; names.py has those of indexes
strangers.py     which roles hold one of our locks and are no workers
"""
