"""How a worker learns that there is something to claim.

listener.py  hears the NOTIFY of a mint, on a connection of its own
bell.py      keeps the triggers from notifying while all workers are busy, and elects one worker of a fleet to respond
sweep.py     wakes for retries that are due, for pauses that end, and for mints that were missed
wake.py      the event on which the dispatcher waits
"""
