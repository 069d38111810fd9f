"""The demo: mints become images before your eyes. It needs no setup and buys nothing.

script.py   what is minted when, and what goes wrong on purpose
house.py    the database: an embedded one, or a given one that holds nothing of others
stage.py    sandbox, reactor and mints, in one event loop
stories.py  what became of each token, from the reactor's events and the provider's books
view.py     a frame of it for a terminal
screen.py   the output: a live view or plain lines, and the summary
"""

from reactor.demo.house import DemoError, house
from reactor.demo.stage import show

__all__ = ["DemoError", "house", "show"]
