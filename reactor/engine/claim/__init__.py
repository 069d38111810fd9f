"""How free slots are filled: a wake becomes a claim.

dispatcher.py  the loop: wait for a wake, claim, start an attempt for each token
idle.py        between two claims: waits until another one is worth its cost
claimer.py     asks for a batch, and continues behind the last one while there is a backlog
detour.py      goes around tokens that the database refuses to let us claim
"""
