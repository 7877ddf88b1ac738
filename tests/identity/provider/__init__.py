"""A real issuer on loopback: npm's oidc-provider, a certified implementation of OpenID Connect."""

from __future__ import annotations

import json
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.console.npm import node_modules
from watchword.stack.ports import Port

HERE = Path(__file__).parent
_START_S = 60.0


class Provider:
    """The issuer. `start` and `stop` it as often as wanted, with other keys each time."""

    def __init__(self, folder: Path, gateway_port: int) -> None:
        shutil.copy(HERE / "provider.mjs", folder)
        (folder / "node_modules").symlink_to(node_modules(folder, HERE))
        self._folder = folder
        self.port = Port().settle()
        self.issuer = f"http://localhost:{self.port}"
        self.home = f"http://127.0.0.1:{gateway_port}"
        self.groups: dict[str, list[str]] = {}
        self.id_token_s = 300
        self._running: subprocess.Popen[str] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The gateway's and the query service's settings for it."""
        return {
            "issuer": self.issuer,
            "client_id": "watchword",
            "client_secret": "a secret with : and %",
            "audience": ["watchword", "watchword-api"],
            "public_url": self.home,
            "scopes": ["openid", "profile", "groups"],
        }

    def start(self, *key_ids: str) -> None:
        """Start it with new keys of these names."""
        keys = []
        for kid in key_ids:
            made = json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048)))
            del made["key_ops"]  # they would be for signing alone
            keys.append(made | {"kid": kid, "use": "sig", "alg": "RS256"})
        given = {
            "port": self.port,
            "redirect_uri": f"{self.home}/login/callback",
            "after_logout": f"{self.home}/login/out",
            "jwks": {"keys": keys},
            "groups": self.groups,
            "id_token_s": self.id_token_s,
        }
        self._running = subprocess.Popen(
            ["node", "provider.mjs", json.dumps(given)],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._running.stdout
        said = ""
        while "ready" not in said.splitlines():
            readable, _, _ = select.select([self._running.stdout], [], [], _START_S)
            line = self._running.stdout.readline() if readable else ""
            assert line, f"the issuer did not start: {said}"
            said += line

    def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.kill()
            self._running.communicate()
            self._running = None

    async def program_token(self) -> str:
        """A JSON Web Token for a program, by client credentials."""
        form = {"grant_type": "client_credentials", "client_id": "program", "client_secret": "for programs"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.issuer}/token", data=form) as answer,
        ):
            token: str = (await answer.json())["access_token"]
            return token


async def log_in(browser: aiohttp.ClientSession, home: str, name: str) -> tuple[int, str]:
    """What a browser does that opens /login, and a person who gives a name and agrees."""
    form: dict[str, str] | None = None
    url, steps = f"{home}/login?then=/%3Fq%3Ddog", 0
    while True:
        steps += 1
        assert steps < 20, url
        asked = (
            browser.get(url, allow_redirects=False)
            if form is None
            else browser.post(url, data=form, allow_redirects=False)
        )
        async with asked as answer:
            body = await answer.text()
            if answer.status in (302, 303):
                url, form = urljoin(url, answer.headers["location"]), None
                continue
            action = re.search(r'<form[^>]* action="([^"]+)"', body)
            prompt = re.search(r'name="prompt" value="([^"]+)"', body)
            if action is None or prompt is None:
                return answer.status, body
            url, form = urljoin(url, action[1]), {"prompt": prompt[1], "login": name, "password": "x"}


@contextmanager
def provided(folder: Path) -> Iterator[Provider]:
    """The issuer, not started yet. Skips the test where its npm package cannot be had."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    provider = Provider(folder, Port().settle())
    try:
        yield provider
    finally:
        provider.stop()
