"""All that we send to PostgreSQL.

store.py         one short method for each query of a worker
queries/         the queries, one file each
table.py         fills the names of the tokens table into a query
rows.py          turns rows into claims, and outcomes into parameters
session.py       a connection that reopens by itself
connections.py   opens connections; the errors that statements raise
availability.py  whether the database answers; shared by a worker's connections
search_path.py   which schemas our statements may look into
channels.py      the names of the NOTIFY channels
strangers.py     which roles hold one of our locks and are no workers
"""
