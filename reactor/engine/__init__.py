"""The worker: wake → claim → generate → settle, one folder for each verb, and the gate that may stop all of them.

worker.py   starts and stops everything, in order; wiring.py makes the parts and connects them
wake/       a mint or a due time wakes the dispatcher
claim/      dispatcher.py turns a wake into a claim: it takes tokens for the free slots
generate/   an attempt buys one prediction and waits for its image
settle/     each result is written, again and again until the database has answered
leases.py   holds the tokens that this worker works on: a slot and a lease for each
rescuer.py  finds tokens whose worker died, and takes them over
gate/       whether the fleet may claim; closed by the provider's errors, a spent budget or an operator
rights.py   says which database privilege the worker lacks
pruner.py   removes old entries of the history
timings.py  every pause and time limit of the worker
health.py   what /readyz and the gauges report
"""
