"""What a worker shows over HTTP: health for orchestrators, metrics for Prometheus."""

from reactor.web.app import application
from reactor.web.server import serve

__all__ = ["application", "serve"]
