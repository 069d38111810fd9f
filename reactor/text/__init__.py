"""Makes text from outside (prompts, errors, reasons) safe. Such text may be hostile until it has passed through here.

redaction.py  before text is stored or logged: removes secrets, replaces control characters, cuts
foreign.py    replaces characters that a terminal, a log or the database cannot take
echoes.py     finds the prompt in an answer that repeats it, and blanks it out
spellings.py  a normal form that is the same for every spelling of a text
prompts.py    which prompts may be sent
messages.py   an error's message, never empty
durations.py  a duration in words
"""
