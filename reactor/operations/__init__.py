"""What an operator asks. The commands and the page both call it.

tokens.py           lists, counts and retries tokens by a filter
causes.py           groups errors by cause
gate.py             closes and opens the gate
expired.py          sets tokens back whose image the provider deleted before the next stage took it
story.py            all about one token; timeline.py puts it into words
overview.py         the figures of `reactor status` and of the page
verdict.py          whether anything is wrong, in one sentence
history.py          what attempts and purchases came to, and what they cost
pulse.py            throughput, failures and times, for the charts
recent_errors.py    the errors of the last hours, by cause and time
audit.py            why each prediction was bought, and whether it was used, from audit_facts.py and audit_reads.py
doctor.py           makes every check, one after the other; finding.py is what a check found
provider_checks.py  the settings of a worker, the API token and the model
server_checks.py    the connections and the server
table_checks.py     the tokens table, and what our role may do with it
wake_check.py       a NOTIFY, from end to end
"""
