"""A Replicate-compatible server for development, tests and the demo, with a ledger of the predictions that were bought.

app.py          the sandbox and its routes; server.py: a socket, with connections that can be cut
guard.py        the checks before the handlers: the token, the rate limits, the faults
api.py          predictions over HTTP; catalog.py: the account and the models
predictions.py  a prediction's life, computed from the clock, and its JSON
books.py        the requests, the predictions and their listing; bounds.py: how much is kept
inputs.py       what a create request may contain; wire.py: the API's error bodies
faults.py       which faults there are, and when they strike; strikes.py: what a fault does to a request
pictures.py     a picture for a prompt and a seed; brushes.py: colours and patterns; gallery.py: a page of pictures
"""

from reactor.sandbox.app import Sandbox
from reactor.sandbox.faults import Fault, FaultError
from reactor.sandbox.guard import Limits
from reactor.sandbox.predictions import Timing

__all__ = ["Fault", "FaultError", "Limits", "Sandbox", "Timing"]
