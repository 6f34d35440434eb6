"""A proxy between a client and a store that drops, refuses and cuts on a schedule.

The schedule knows a request by what it asks for, not by when it comes, so that it is the same however threads run.
"""

from __future__ import annotations

import http.client
import re
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"

#: What can go wrong with a request, by its method.
FAULTS = {
    "GET": ("busy", "drop", "drop in body", "short body"),
    "HEAD": ("busy", "drop"),
    "PUT": ("busy", "drop", "drop in upload", "lose answer"),
    "POST": ("busy", "drop", "lose answer"),
    "DELETE": ("busy", "drop", "lose answer"),
}


@dataclass(frozen=True)
class Request:
    """What is asked for: of two tries of one request both are equal."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    range: str

    def named(self, suffix: str) -> bool:
        return self.path.endswith(suffix)


#: The fault of a request at its n-th try (from 0), None for none.
Schedule = Callable[[Request, int], "str | None"]


def no_fault(request: Request, attempt: int) -> str | None:
    return None


def every_request_fails_first(request: Request, attempt: int) -> str | None:
    """Each request fails once, each fourth twice, with the kinds spread over them."""
    mark = zlib.crc32(repr(request).encode())
    faults = FAULTS[request.method]
    times = 2 if mark % 4 == 0 else 1
    return faults[(mark // 4 + attempt) % len(faults)] if attempt < times else None


class FaultyProxy:
    """Stands before the store at `upstream` (host, port) while the `with` block runs."""

    def __init__(self, upstream: tuple[str, int], schedule: Schedule = no_fault) -> None:
        self.upstream = upstream
        self.schedule = schedule
        self.requests: list[Request] = []
        self.faults: Counter[tuple[str, str]] = Counter()
        self._attempts: Counter[Request] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_fault(self, request: Request) -> str | None:
        with self._lock:
            attempt = self._attempts[request]
            self._attempts[request] += 1
            self.requests.append(request)
        fault = self.schedule(request, attempt)
        if fault:
            with self._lock:
                self.faults[request.method, fault] += 1
        return fault

    def methods(self) -> Counter[str]:
        return Counter(request.method for request in self.requests)


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            query = parse_qsl(url.query, keep_blank_values=True)
            # The name of an upload is made up by the store; it says nothing of what is asked for.
            known = tuple(sorted((key, value) for key, value in query if key != "uploadId"))
            fault = proxy.next_fault(Request(self.command, url.path, known, self.headers.get("Range", "")))
            length = int(self.headers.get("Content-Length") or 0)
            if fault == "drop in upload":
                self.rfile.read(length // 2)
                return self.hang_up()
            body = self.rfile.read(length)
            if fault == "drop":
                return self.hang_up()
            if fault == "busy":
                return self.answer(503, {"Content-Type": "application/xml"}, BUSY)
            if fault == "denied":
                return self.answer(403, {"Content-Type": "application/xml"}, DENIED)
            status, headers, content = self.ask(body)
            if fault == "lose answer":
                return self.hang_up()
            if fault == "short body":
                return self.answer(status, headers, content[: len(content) // 2])
            if fault == "drop in body":
                self.answer(status, headers, content, sent=len(content) // 2)
                return self.hang_up()
            return self.answer(status, headers, content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            upstream = http.client.HTTPConnection(*proxy.upstream, timeout=60)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for key, value in self.headers.items():
                if key.lower() not in {"connection", "transfer-encoding"}:
                    upstream.putheader(key, value)
            upstream.endheaders(body)
            answer = upstream.getresponse()
            content = answer.read()
            headers = dict(answer.getheaders())
            upstream.close()
            return answer.status, headers, content

        def answer(self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None) -> None:
            self.send_response_only(status)
            for key, value in headers.items():
                if not re.fullmatch("(?i)connection|transfer-encoding|content-length", key):
                    self.send_header(key, value)
            # An answer to HEAD says how long the content is that it leaves out.
            size = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", size)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[:sent])

        def hang_up(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                # The client was killed, or hung up first.
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """The test looks at `requests` instead."""

    return Handler
