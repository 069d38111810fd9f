"""A real worker against prompts, rows and answers that Hypothesis makes up: seeded, and checked after each case.

cases.py     what is minted, and what the provider answers to it
provider.py  the server that answers so
measures.py  processor time of each step of the worker's loop, and memory
house.py     database, provider and worker, each in a thread of its own, for one case after another
findings.py  what must not be in a line of the log or in a row
"""
