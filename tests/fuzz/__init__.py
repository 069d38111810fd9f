"""A real worker against prompts, rows and answers that Hypothesis makes up from a seed. Each case is checked.

cases.py     what is minted, and the provider's answers
provider.py  the server that gives these answers
measures.py  processor time of each step of the worker's loop, and memory
house.py     database, provider and worker, each in a thread of its own, for one case after another
findings.py  what must not stand in a line of the log or in a row
"""
