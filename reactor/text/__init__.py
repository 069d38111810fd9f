"""Text of others: prompts, errors, reasons. It is hostile until it has passed through here.

redaction.py  what is stored or logged: secrets removed, control characters replaced, cut
foreign.py    replaces characters that a terminal, a log or the database cannot show
echoes.py     finds a prompt that an answer repeats, and blanks it out
spellings.py  a normal form, the same for every spelling of a text
prompts.py    which prompts may be sent
messages.py   an error's message, never empty
"""
