"""`watchword support-bundle`: one archive with what helps to find a fault, and no secrets.

Secrets are removed twice. Every value that is known to be secret (settings, and user, password and query of camera
addresses) is replaced wherever it stands, in the forms in which programs write it; then whatever looks like a secret is
(proto/scrub.py). Nothing is taken from the environment, and no picture or question is in it.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import io
import json
import platform
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import aiohttp
from pydantic import SecretStr

from catalog.files import write_whole
from proto.errors import WatchwordError
from proto.scrub import HIDDEN, scrubbed
from proto.section import Section
from watchword.settings import Settings, describe_settings
from watchword.stack import running_stack
from watchword.stack.state import STATE_NAME

LOG_BYTES = 512 * 1024
"""The end of each log."""
_METRICS_S = 5.0
_DOCTOR_S = 90.0
_DAY_MS = 86_400_000
_LEAST = 4
"""Shorter values stand everywhere by chance. They are hidden where they are seen to be secret: in an address, or after
a name such as password."""
_LONG = 8
"""So long a value in an address is taken for a secret, whatever its name."""


@dataclass
class Bundle:
    """The files of the archive, by name, and what could not be had."""

    files: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, made: Callable[[], str]) -> None:
        """Add a file, or why there is none: a part that is broken must not keep the others out."""
        try:
            self.files[name] = made()
        except Exception as error:  # whatever is wrong here is what the bundle is for
            self.missing[name] = f"{type(error).__name__}: {error}"


async def make_bundle(settings: Settings, path: Path) -> Bundle:
    """Write the archive; returns what is in it. Broken when it cannot be written."""
    bundle = Bundle()
    cameras: list[str] = []
    with_cameras = _cameras(settings, cameras)
    bundle.add("cameras.txt", lambda: "\n".join(with_cameras()) + "\n")
    bundle.add("version.txt", _version)
    bundle.add("config.toml", lambda: describe_settings(settings) + "\n")
    bundle.add(STATE_NAME, (settings.data_dir / STATE_NAME).read_text)
    for log in sorted((settings.data_dir / "logs").glob("*.log")):
        bundle.add(f"logs/{log.name}", lambda log=log: _tail(log))  # type: ignore[misc]
    bundle.add("coverage.txt", lambda: "\n".join(_coverage(settings)) + "\n")
    await _live(settings, bundle)
    hide = Hiding([*secrets_of(settings), *(part for url in cameras for part in secrets_of_url(url))])
    files = {name: hide(text) for name, text in bundle.files.items()}
    files["missing.txt"] = hide("".join(f"{name}: {why}\n" for name, why in sorted(bundle.missing.items())))
    write_whole(path, _packed(files, path.name.removesuffix(".gz").removesuffix(".tar")), durable=False)
    return bundle


class Hiding:
    """Removes secrets from text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= _LEAST for form in _forms(secret)}
        # The longest first: one may be a part of another.
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return "\n".join(scrubbed(line) for line in text.split("\n"))


def secrets_of(section: Settings | Section) -> Iterator[str]:
    """Every secret value of the settings, and the secret parts of addresses in them."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from secrets_of(value)
        elif isinstance(value, SecretStr):
            yield value.get_secret_value()
            yield from secrets_of_url(value.get_secret_value())
            if "://" not in value.get_secret_value():
                yield value.get_secret_value().partition(":")[2]  # of user:password
        else:
            for one in value if isinstance(value, tuple) else (value,):
                yield from secrets_of_url(str(one))


def secrets_of_url(url: str) -> Iterator[str]:
    """User and password, and those values of the query that may be secret."""
    if "://" not in url:
        return
    rest = url.split("://", 1)[1]
    user_info, at, _ = rest.rpartition("@")
    if at:
        yield user_info
        yield user_info.partition(":")[2]
    for pair in rest.partition("?")[2].split("&"):
        value = pair.partition("=")[2]
        if len(value) >= _LONG or HIDDEN in scrubbed(pair):
            yield value


def _forms(secret: str) -> Iterator[str]:
    """The secret as different programs write it."""
    for plain in (secret, unquote(secret)):
        if len(plain) >= _LEAST:
            yield plain
            yield quote(plain, safe="")
            yield quote(plain)
            yield quote_plus(plain)
            yield json.dumps(plain)[1:-1]
            yield json.dumps(plain, ensure_ascii=False)[1:-1]
            yield repr(plain)[1:-1]


def _cameras(settings: Settings, urls: list[str]) -> Callable[[], Iterator[str]]:
    """The cameras, without what could be secret in their addresses, which go to `urls`."""

    def lines() -> Iterator[str]:
        from cameras.address import shown
        from catalog.cameras import CameraRegistry
        from watchword.catalogs import catalog_as_it_is

        with catalog_as_it_is(settings) as catalog:
            if catalog is None:
                yield "no catalog of this version yet"
                return
            for camera in CameraRegistry(catalog).all():
                urls.append(camera.url)
                yield f"{camera.name} {shown(scrubbed(camera.url))} watching={camera.watching}"

    return lines


def _coverage(settings: Settings) -> Iterator[str]:
    """What was not looked at in the last day, by reason; and the cameras furthest behind."""
    from catalog.coverage import Coverage
    from watchword.catalogs import catalog_as_it_is

    now = round(time.time() * 1000)
    with catalog_as_it_is(settings) as catalog:
        if catalog is None:
            yield "no catalog of this version yet"
            return
        coverage = Coverage(catalog)
        gaps, frames, seconds = Counter[str](), Counter[str](), Counter[str]()
        for gap in coverage.gaps(None, now - _DAY_MS, None):
            gaps[gap.reason] += 1
            frames[gap.reason] += gap.frames
            seconds[gap.reason] += (gap.end_ms - gap.start_ms) // 1000
        for reason, count in gaps.items():
            yield f"{reason}: {count} gaps, {frames[reason]} frames, {seconds[reason]} s, in the last day"
        for mark in coverage.marks()[:50]:
            yield f"{mark.camera} looked at until {(now - mark.captured_ms) / 1000:.0f} s ago"


async def _live(settings: Settings, bundle: Bundle) -> None:
    """What the running processes say, and what the doctor says of them."""
    from watchword.doctor import examine

    stack = running_stack(settings.data_dir)
    for name, address in (stack.addresses.ops if stack else {}).items():
        try:
            bundle.files[f"metrics/{name}.txt"] = await _metrics(address)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            bundle.missing[f"metrics/{name}.txt"] = f"{type(error).__name__}: {error}"
    if stack is None:
        bundle.missing["metrics"] = f"no stack runs on {settings.data_dir}"
    try:
        async with asyncio.timeout(_DOCTOR_S):
            found = await examine(settings)
        lines = (f"{'ok' if one.ok else '!!'}  {one.part}: {one.seen}  {one.todo}".rstrip() for one in found)
        bundle.files["doctor.txt"] = "\n".join(lines) + "\n"
    except (WatchwordError, TimeoutError) as error:
        bundle.missing["doctor.txt"] = f"{type(error).__name__}: {error}"


async def _metrics(address: str) -> str:
    timeout = aiohttp.ClientTimeout(total=_METRICS_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"http://{address}/metrics") as reply:
        return await reply.text()


def _version() -> str:
    installed = sorted(f"{one.metadata['Name']}=={one.version}" for one in importlib.metadata.distributions())
    head = [f"watchword {importlib.metadata.version('watchword')}", f"python {platform.python_version()}"]
    return "\n".join([*head, platform.platform(), "", *installed]) + "\n"


def _tail(path: Path) -> str:
    """The end of a log, from the beginning of a line: half an address could not be recognised as one."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        text = file.read().decode(errors="replace")
    return text if size <= LOG_BYTES else text.partition("\n")[2]


def _packed(files: dict[str, str], folder: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            content = text.encode(errors="replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
