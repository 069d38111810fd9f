"""Everything that is said to PostgreSQL.

store.py         one short method for each query of a worker
queries/         the queries, one file each
table.py         fills a query with the names of the tokens table
rows.py          from rows to claims, and from outcomes to parameters
session.py       a connection that opens again by itself
connections.py   opens connections; the errors of statements
availability.py  whether the database answers, as the worker's connections tell each other
search_path.py   which schemas our statements may look into
channels.py      the names of the NOTIFY channels
strangers.py     who holds one of our locks without being a worker
"""
