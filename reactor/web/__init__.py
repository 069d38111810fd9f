"""The worker's HTTP port: health for orchestrators, metrics for Prometheus, the page and its API for people.

app.py           the routes: of the worker's own port, and of a page that another application mounts
server.py        the port itself; connection.py is one client of it
pages.py         the page as HTML; cards.py and charts.py prepare what render.py fills into the templates
api.py           the same as JSON; openapi.py describes it
reads.py         every read of the database, shared by all who ask at the same moment
actions.py       retry, pause and resume
changes.py       tells browsers that something changed
site.py          what the page and the API share
guard.py         who asks, and what they may do; keys.py has the tokens, sign_in.py the form for a browser
wrong_tokens.py  slows the answers to wrong tokens
origins.py       refuses a request by which another website acts
refusals.py      answers refused requests, and counts them
problems.py      says in one sentence why a request was not served
filters.py       reads a filter from a request; bodies.py reads the request's body
headers.py       the headers that tell a browser to refuse what our pages do not need
static_files.py  the page's own files, from memory
metrics.py       counts events for Prometheus
"""

from reactor.web.app import application, mounted
from reactor.web.keys import Keys
from reactor.web.refusals import Refusals
from reactor.web.server import connection_limit, serve
from reactor.web.site import Site

__all__ = ["Keys", "Refusals", "Site", "application", "connection_limit", "mounted", "serve"]
