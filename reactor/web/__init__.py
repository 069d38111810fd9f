"""The worker's HTTP port: health for orchestrators, metrics for Prometheus."""

from reactor.web.app import application
from reactor.web.refusals import Refusals
from reactor.web.server import connection_limit, serve

__all__ = ["Refusals", "application", "connection_limit", "serve"]
