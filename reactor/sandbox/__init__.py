"""A Replicate-compatible server for development, tests and the demo. It keeps a ledger of what was bought.

app.py          the server, its books and its routes; bounds.py: how much it takes; keys.py: its token
guard.py        what every request passes: token, limits.py, faults
api.py          predictions over HTTP; asking.py and answers.py: what is asked, and the API's own words
predictions.py  a prediction's life, as a function of the clock; bodies.py: as JSON
books.py        what was asked and bought, and the listing
catalog.py      the models it knows; inputs.py: what they take
faults.py       what goes wrong, and when; strikes.py: to a request; fates.py: to a prediction
other.py        the account, models and their versions
pictures.py     a picture for a prompt and a seed; brushes.py: colours and patterns; gallery.py: a page of pictures
server.py       a socket, with connections that can be cut
"""

from reactor.sandbox.app import Sandbox
from reactor.sandbox.faults import Fault, FaultError
from reactor.sandbox.limits import Limits
from reactor.sandbox.predictions import Timing

__all__ = ["Fault", "FaultError", "Limits", "Sandbox", "Timing"]
