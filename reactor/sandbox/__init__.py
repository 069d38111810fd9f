"""A Replicate-compatible server for development, tests and the demo. It keeps a ledger of what was bought.

app.py          the sandbox and its routes; server.py: a socket, with connections that can be cut
guard.py        what every request passes: the token, the rate limit, faults
api.py          predictions over HTTP; catalog.py: the account and the models
predictions.py  a prediction's life, as a function of the clock, and its JSON
books.py        what was asked and bought, and the listing; bounds.py: how much is kept
inputs.py       what a create may say; wire.py: the API's own words
faults.py       what goes wrong, and when; strikes.py: what a fault does to a request
pictures.py     a picture for a prompt and a seed; brushes.py: colours and patterns; gallery.py: a page of pictures
"""

from reactor.sandbox.app import Sandbox
from reactor.sandbox.faults import Fault, FaultError
from reactor.sandbox.guard import Limits
from reactor.sandbox.predictions import Timing

__all__ = ["Fault", "FaultError", "Limits", "Sandbox", "Timing"]
