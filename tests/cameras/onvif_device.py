"""A small ONVIF camera for tests: it answers probes over UDP and SOAP over HTTP, and checks logins as a camera does."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USER, PASSWORD = "admin", "s3cret & <more>"


class OnvifDevice:
    """Runs until `close`. Its words can be changed before it is asked."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        device = self
        self.ahead = ahead
        self.asked: list[str] = []
        self.answers: dict[str, str | bytes] = {}
        """By call, in place of what a good camera says."""
        self.xaddrs = ""
        self.match = ""
        """In place of the answer to a probe."""

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, words = device._answer(body)
                data = words if isinstance(words, bytes) else words.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.place: tuple[str, int] = self._udp.getsockname()
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        self._thread = threading.Thread(target=self._probes, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", self.place)
        self._thread.join(5)
        self._udp.close()

    def _probes(self) -> None:
        while True:
            data, to = self._udp.recvfrom(65_535)
            if not data:
                return
            found = re.search(r"<w:MessageID>([^<]+)<", data.decode())
            assert found and "NetworkVideoTransmitter" in data.decode()
            scopes = "onvif://www.onvif.org/name/Front%20door onvif://www.onvif.org/hardware/X1"
            words = self.match or (
                f"<a:RelatesTo>{found[1]}</a:RelatesTo><d:ProbeMatches><d:ProbeMatch><d:Scopes>{scopes}</d:Scopes>"
                f"<d:XAddrs>{self.xaddrs or f'http://10.9.9.9/onvif {self.url}/onvif/device_service'}</d:XAddrs>"
                "</d:ProbeMatch></d:ProbeMatches>"
            )
            self._udp.sendto(f'<e xmlns:a="urn:a" xmlns:d="urn:d">{words}</e>'.encode(), to)

    def _answer(self, body: str) -> tuple[int, str | bytes]:
        (call,) = re.findall(r"<s:Body><(\w+)", body)
        self.asked.append(call)
        if call in self.answers:
            return 200, self.answers[call]
        if call == "GetSystemDateAndTime":
            at = datetime.now(UTC) + self.ahead
            time = f"<Time><Hour>{at.hour}</Hour><Minute>{at.minute}</Minute><Second>{at.second}</Second></Time>"
            date = f"<Date><Year>{at.year}</Year><Month>{at.month}</Month><Day>{at.day}</Day></Date>"
            return 200, f"<e><UTCDateTime>{time}{date}</UTCDateTime></e>"
        if not self._may(body):
            return 400, "<e><Subcode>ter:NotAuthorized</Subcode></e>"
        rtsp = "rtsp://user:hunter2@127.0.0.1:554/main?a=1&amp;b=2"
        return 200, {
            "GetCapabilities": "<e><Media><XAddr>http://192.168.9.9/onvif/media</XAddr></Media></e>",
            "GetProfiles": '<e><Profiles token="main"><VideoEncoderConfiguration><Encoding>H264</Encoding><Resolution>'
            "<Width>1920</Width><Height>1080</Height></Resolution></VideoEncoderConfiguration></Profiles></e>",
            "GetStreamUri": f"<e><MediaUri><Uri>{rtsp}</Uri></MediaUri></e>",
            "GetSnapshotUri": "<e><MediaUri><Uri>http://127.0.0.1/picture.jpg</Uri></MediaUri></e>",
        }[call]

    def _may(self, body: str) -> bool:
        told = {
            name: re.search(rf"<{name}[^>]*>([^<]+)<", body) for name in ("Username", "Password", "Nonce", "Created")
        }
        values = {name: found[1] for name, found in told.items() if found}
        if len(values) < 4 or values["Username"] != USER:
            return False
        created = datetime.fromisoformat(values["Created"])
        if abs(created - datetime.now(UTC) - self.ahead) > timedelta(seconds=5):
            return False
        words = base64.b64decode(values["Nonce"]) + values["Created"].encode() + PASSWORD.encode()
        return base64.b64encode(hashlib.sha1(words).digest()).decode() == values["Password"]
