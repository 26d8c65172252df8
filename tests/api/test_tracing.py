"""OpenTelemetry: spans by route reach a collector when one is named; without one nothing of it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from api.tracing import set_up

ASK = """
import asyncio, httpx
from fastapi import FastAPI
from api.tracing import set_up
finish = set_up()
app = FastAPI()

@app.get("/things/{name}")
async def thing(name: str) -> str:
    return name

async def ask() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        await client.get("/things/a-secret-name")

asyncio.run(ask())
finish()
"""


def test_spans_reach_the_collector_and_are_named_by_route() -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Silent."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        try:
            subprocess.run([sys.executable, "-c", ASK], env=environment, check=True, timeout=60)
        finally:
            server.shutdown()
            thread.join()
    requests = [ExportTraceServiceRequest.FromString(body) for body in received]
    resources = [one for request in requests for one in request.resource_spans]
    names = {span.name for one in resources for scope in one.scope_spans for span in scope.spans}
    assert "GET /things/{name}" in names
    services = {
        item.value.string_value for one in resources for item in one.resource.attributes if item.key == "service.name"
    }
    assert services == {"stac-federator"}


def test_nothing_is_imported_without_a_collector() -> None:
    assert set_up({}) is None
    code = """
import sys, api.main, api.tracing
assert api.tracing.set_up({}) is None
print([name for name in sys.modules if name.startswith("opentelemetry.sdk")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
