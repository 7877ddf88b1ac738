"""A hub on this machine: one repository, with checksums, ranges, and a switch for each thing that can go wrong."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "owner/model"
REVISION = "c0ffee" * 6 + "abcd"


@dataclass
class LocalHub:
    folder: Path
    address: str = ""
    licence: str | None = "mit"
    cut_after: dict[str, int] = field(default_factory=dict)
    """Paths whose transfer breaks once after so many bytes."""
    other_content: dict[str, bytes] = field(default_factory=dict)
    """What is sent instead of what is listed."""
    status: int = 0
    """When set, every request is answered with it."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes sent, by path."""
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)

    def listing(self) -> dict[str, object]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {
            "id": REPOSITORY,
            "sha": REVISION,
            "cardData": {"license": self.licence} if self.licence else {},
            "siblings": [self._listed(path) for path in files],
        }

    def _listed(self, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        listed: dict[str, object] = {"rfilename": path.relative_to(self.folder).as_posix(), "size": len(content)}
        listed["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if path.suffix == ".onnx":
            listed["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return listed


@contextmanager
def local_hub(folder: Path) -> Iterator[LocalHub]:
    hub = LocalHub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            hub.asked.append(self.path)
            hub.agents.add(self.headers.get("User-Agent", ""))
            if hub.status:
                self._send(hub.status, b"{}", {"X-Error-Code": "RepoNotFound"} if hub.status == 404 else {}, with_body)
            elif self.path.startswith(f"/api/models/{REPOSITORY}/revision/"):
                self._send(200, json.dumps(hub.listing()).encode(), {"Content-Type": "application/json"}, with_body)
            elif self.path.startswith(f"/{REPOSITORY}/resolve/"):
                self._send_file(self.path.split("/", 5)[5], with_body)
            else:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

        def _send_file(self, path: str, with_body: bool) -> None:
            listed = hub._listed(hub.folder / path)
            content = hub.other_content.get(path, (hub.folder / path).read_bytes())
            lfs = listed.get("lfs")
            etag = lfs["sha256"] if isinstance(lfs, dict) else listed["blobId"]
            headers = {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
            first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            if first:
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            part = content[first:]
            cut = hub.cut_after.pop(path, None) if with_body else None
            if with_body:
                hub.sent[path] = hub.sent.get(path, 0) + len(part[:cut])
            self._send(206 if first else 200, part, headers, with_body, cut)

        def _send(
            self, status: int, body: bytes, headers: dict[str, str], with_body: bool, cut: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True

    return Handler
