"""How results get into the database.

settler.py     writes prediction ids and outcomes in batches, and tries again until the database answers
unsettled.py   the results for which the database has not answered yet
unwritable.py  what to write instead of a result that the database refuses
"""
