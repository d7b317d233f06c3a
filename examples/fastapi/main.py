"""The example service: one greeting, one health check.

Logs are JSON, one object a line, and name what happened (route, status, milliseconds), never what was sent. Nothing here
waits for the network inside the event loop, and there is nothing secret to keep.
"""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

LOG = logging.getLogger("service")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; the fields of a record's `fields` are added."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up_logging() -> None:
    """Sends everything through one JSON handler; uvicorn's access lines (addresses, query strings) are left out."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers = []
    access.propagate = False


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Says when the service is up and when it goes down."""
    LOG.info("ready", extra={"fields": {"python": platform.python_version()}})
    yield
    LOG.info("stopped")


set_up_logging()
app = FastAPI(title="Throne room", lifespan=lifespan)


@app.middleware("http")
async def log_request(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """One log entry a request: the route's pattern, not the path that was asked for."""
    started = time.perf_counter()
    response = await call_next(request)
    route = request.scope.get("route")
    fields = {
        "method": request.method,
        "route": getattr(route, "path", None),
        "status": response.status_code,
        "ms": round((time.perf_counter() - started) * 1000, 1),
    }
    LOG.info("request", extra={"fields": fields})
    return response


@app.get("/")
async def greet() -> dict[str, str]:
    """The greeting, with the Python that answers."""
    return {"message": "The forge has done its work", "python": platform.python_version()}


@app.get("/healthz")
async def health() -> dict[str, str]:
    """Whether the service answers."""
    return {"status": "ok"}
