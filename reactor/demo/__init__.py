"""A performance: mints become images before one's eyes, with nothing to set up and nothing bought.

script.py   what is minted when, and what goes wrong on purpose
house.py    the database: an embedded one, or a given one that can be nobody's but ours
stage.py    sandbox, reactor and mints, in one event loop
stories.py  what became of each token: the reactor's events and the provider's books on one clock
view.py     a frame of it for a terminal
screen.py   the terminal, or plain lines, and the summary
"""

from reactor.demo.house import DemoError, house
from reactor.demo.stage import show

__all__ = ["DemoError", "house", "show"]
