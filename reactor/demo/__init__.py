"""The demo: it shows how mints become images. It needs no setup and buys nothing.

script.py   the mints and their times, and the faults on purpose
house.py    the database: an embedded one, or a given one that holds nobody else's data
page.py     the reactor's page
stage.py    the sandbox, the reactor and the mints, in one event loop
stories.py  what happened to each token, from the reactor's events and the sandbox's ledger
guide.py    the link, the commands, and what to do next
view.py     a frame of the live view
screen.py   the output: a live view or plain lines, and the summary
"""

from reactor.demo.house import DemoError, house
from reactor.demo.stage import show

__all__ = ["DemoError", "house", "show"]
