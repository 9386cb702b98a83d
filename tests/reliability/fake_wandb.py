"""A W&B server on the loopback that opens runs and takes files; the stream of their numbers does as it is told."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

RUN = {"id": "b", "displayName": "r", "description": "", "config": "{}", "sweepName": "", "historyLineCount": 0}
RUN |= {"project": {"id": "p", "name": "taut", "entity": {"id": "e", "name": "me"}}}
ARTIFACT = {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
ME = {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}


@contextmanager
def serving(stream: str) -> Iterator[str]:
    """The address of a server whose stream is ``taken``, ``hanging`` or ``failing`` (it answers 500)."""
    handler = type("Handler", (Accepting,), {"stream": stream, "closing": threading.Event()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # not waited for: what hangs may belong to a client that is gone
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        handler.closing.set()
        server.shutdown()


class Accepting(http.server.BaseHTTPRequestHandler):
    """What W&B's client asks for, and nothing behind it."""

    protocol_version = "HTTP/1.1"
    stream = "taken"
    closing: threading.Event

    def handle(self):
        # the client is killed while a request is open
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def do_HEAD(self):
        self._answer(200, b"")

    do_GET = do_HEAD

    def do_PUT(self):
        self._body()
        self._answer(200, b"{}")

    def do_POST(self):
        body = self._body()
        if "file_stream" in self.path:
            if self.stream == "hanging":
                self.closing.wait()
            self._answer(500 if self.stream == "failing" else 200, b"{}")
        elif "graphql" in self.path:
            self._answer(200, json.dumps({"data": self._data(json.loads(body).get("variables") or {})}).encode())
        else:
            self._answer(200, b"{}")

    def _data(self, asked):
        here = f"http://{self.headers['Host']}"
        files = [{"name": name, "uploadUrl": f"{here}/upload/{name}"} for name in asked.get("files") or []]
        return {
            "serverInfo": {"features": []},
            "viewer": ME,
            "model": {"bucket": None},
            "upsertBucket": {"bucket": {**RUN, "name": asked.get("name")}, "inserted": True},
            "project": None,
            "createArtifact": {"artifact": ARTIFACT},
            "createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files},
        }

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
