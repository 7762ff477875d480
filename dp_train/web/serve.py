"""Runs the application on a socket, until the process is ended."""

from __future__ import annotations

import uvicorn

from dp_train.errors import ConfigError
from dp_train.web.guard import App


def serve(app: App, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; the server logs no request, and says neither its name nor a date.

    Raises:
      ConfigError: the address is taken.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_level="error",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=100,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=16_384,
        http="h11",
        ws="none",
    )
    server = uvicorn.Server(config)
    try:
        server.run()
    except SystemExit as error:
        raise ConfigError(f"consent serve: {host}:{port} cannot be used; choose another --host or --port") from error
