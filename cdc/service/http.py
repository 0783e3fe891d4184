"""`/metrics`, `/healthz` and `/readyz` over HTTP, in a thread of their own."""

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cdc import metrics
from cdc.config import HttpSettings
from cdc.errors import ConfigError
from cdc.service.health import Health


def listen(settings: HttpSettings) -> socket.socket:
    """A socket that listens at the settings' address. Raises ConfigError when it cannot be bound."""
    host, port = settings.host, settings.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error.strerror}",
            "Set http.host and http.port to a free address, unless our own service holds it.",
        ) from None


class HttpServer:
    """Serves while the block lasts. `.url` says where; port 0 in the settings takes any free one.

    Raises ConfigError when the address cannot be bound.
    """

    def __init__(self, settings: HttpSettings, health: Health) -> None:
        self._settings = settings
        self._health = health
        self.url = ""

    def __enter__(self) -> Self:
        listener = listen(self._settings)
        host, port = listener.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        config = uvicorn.Config(self._app(), log_level="warning", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/metrics", self._metrics), Route("/healthz", self._healthz), Route("/readyz", self._readyz)
            ]
        )  # fmt: skip

    async def _metrics(self, _: Request) -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    async def _healthz(self, _: Request) -> Response:
        """200 when all is well; 503 when any role of any destination is not up."""
        return self._said(self._health.healthy())

    async def _readyz(self, _: Request) -> Response:
        """200 as long as the backup goes on, if only to one destination; 503 when it does not."""
        return self._said(self._health.ready())

    def _said(self, good: bool) -> JSONResponse:
        body = {
            "healthy": self._health.healthy(),
            "ready": self._health.ready(),
            "roles": [state.to_dict() for state in self._health.roles()],
        }
        return JSONResponse(body, status_code=200 if good else 503)
