"""The worker: wake → claim → generate → settle, one folder for each verb, and the gate that may stop all of them.

worker.py   starts and stops everything, in order; wiring.py makes the parts and connects them
wake/       a mint or a due time says "look now"
claim/      the dispatcher takes tokens for the free slots
generate/   an attempt buys one prediction and waits for its image
settle/     results are written until the database has answered
leases.py   what this worker holds; renews its leases
rescuer.py  finds tokens whose worker died, and takes them over
gate/       whether anybody may claim: closed by the provider's errors or an operator
timings.py  how long the worker waits for what
health.py   what /readyz tells of all this
"""
