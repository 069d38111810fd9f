"""What a worker shows over HTTP: health for orchestrators, metrics for Prometheus."""

from reactor.web.app import application
from reactor.web.refusals import Refusals
from reactor.web.server import room, serve

__all__ = ["Refusals", "application", "room", "serve"]
