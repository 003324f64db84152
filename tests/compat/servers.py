"""Services on this machine, in place of those out there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]
"""From path and content of a request to status and content."""


class Loopback:
    """An HTTP server that keeps what it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """Path and content of each."""
        self.tokens: list[str | None] = []
        """The header `Authorization` of each."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlparse(self.path).query)
                self._answer({name: values[0] for name, values in query.items()})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                self._answer(json.loads(self.rfile.read(length)))

            def _answer(self, content: dict[str, Any]) -> None:
                path = urlparse(self.path).path
                outer.requests.append((path, content))
                outer.tokens.append(self.headers["Authorization"])
                status, reply = answer(path, content)
                data = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def sent_to(self, end: str) -> list[dict[str, Any]]:
        """What came to paths that end so."""
        return [content for path, content in self.requests if path.endswith(end)]

    def close(self) -> None:
        """Stops."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def slack(path: str, content: dict[str, Any]) -> tuple[int, Any]:
    """A webhook of Slack."""
    return 200, "ok"


def broken(path: str, content: dict[str, Any]) -> tuple[int, Any]:
    """A server with an error of its own."""
    return 500, "out of order"


def mlflow(artifacts: str) -> Answer:
    """As much of MLflow's REST interface as its client needs to log a run."""

    def answer(path: str, content: dict[str, Any]) -> tuple[int, Any]:
        call = path.rpartition("/mlflow/")[2]
        run = {
            "info": {
                "run_id": "r1",
                "run_uuid": "r1",
                "experiment_id": "7",
                "status": "RUNNING",
                "start_time": 1,
                "artifact_uri": artifacts,
                "lifecycle_stage": "active",
            },
            "data": {},
        }
        match call:
            case "experiments/get-by-name":
                return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": ""}
            case "experiments/create":
                return 200, {"experiment_id": "7"}
            case "runs/create" | "runs/get":
                return 200, {"run": run}
            case "runs/update":
                return 200, {"run_info": run["info"]}
        return 200, {}

    return answer
