"""Objects in a bucket of S3, or of anything that speaks its protocol."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from catalog.objects import Stored
from catalog.settings import BucketSettings
from proto.errors import Broken, Transient, WatchwordError

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_MOST_SAID = 300

# What servers say: the codes of Amazon's, and of some others that speak its protocol.
_MISSING = {"NoSuchKey", ""}
_NO_BUCKET = {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "AuthorizationHeaderMalformed"}
_DENIED = {
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("AllAccessDisabled", "AccountProblem", "XAdminUserNotFound"),
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioStorageQuotaExceeded", "InsufficientStorage"}


class S3Objects:
    """A bucket, or a prefix in it. Nothing is asked before the first call."""

    def __init__(self, bucket: str, prefix: str, settings: BucketSettings, section: str = "media") -> None:
        """`section` is that of the settings, for errors."""
        self._section = section
        self._shown = f"s3://{bucket}/{prefix}".rstrip("/") + (f" at {settings.endpoint}" if settings.endpoint else "")
        key, secret = settings.key.get_secret_value(), settings.secret.get_secret_value()
        within = timedelta(seconds=settings.timeout_s)
        if settings.endpoint.startswith("http:") and not settings.allow_http:
            raise Broken(
                f"{self._shown} would be spoken to without encryption",
                todo=f"use https in {section}.endpoint, or set {section}.allow_http to true",
            )
        options: dict[str, Any] = {"endpoint": settings.endpoint} if settings.endpoint else {}
        if key:
            options |= {"access_key_id": key, "secret_access_key": secret}
        elif settings.endpoint:
            options["skip_signature"] = True  # no cloud gives credentials for somebody else's server
        try:
            self._store = S3Store(
                bucket,
                prefix=prefix or None,
                region=settings.region,
                **options,
                client_options={"allow_http": settings.allow_http, "timeout": within, "connect_timeout": within},
                # Who calls tries again, and knows how long it may wait.
                retry_config={"max_retries": 1, "retry_timeout": within},
            )
        except (BaseError, ValueError) as error:
            raise Broken(
                f"{self._shown} cannot be used ({_said(error)})", todo=f"check the section [{section}]"
            ) from error

    def put(self, name: str, data: bytes) -> None:
        with self._told("write to"):
            obstore.put(self._store, name, data, use_multipart=False)

    def get(self, name: str) -> bytes | None:
        with self._told("read"):
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError as error:
                if _code(error) not in _MISSING:
                    raise
                return None

    def has(self, name: str) -> bool:
        with self._told("read"):
            try:
                obstore.head(self._store, name)
            except FileNotFoundError as error:
                if _code(error) not in _MISSING:
                    raise
                return False
            return True

    def tidy(self, folder: str) -> None:
        """Nothing to do: there are no folders."""

    def list(self, folder: str) -> Sequence[Stored]:
        with self._told("list"):
            return [
                Stored(one["path"], round(one["last_modified"].timestamp() * 1e9))
                for some in obstore.list(self._store, f"{folder}/")
                for one in some
            ]

    def remove(self, names: Collection[str]) -> None:
        if not names:
            return
        with self._told("remove from"):
            try:
                obstore.delete(self._store, sorted(names))
            except FileNotFoundError as error:
                if _code(error) not in _MISSING:
                    raise

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            raise self._translated(action, error) from error

    def _translated(self, action: str, error: Exception) -> WatchwordError:
        code, status = _code(error), _status(error)
        said = code or _said(error)
        if code == "RequestTimeTooSkewed":
            return Broken(f"{self._shown} refuses the time of this machine", todo="set its clock right")
        if code in _FULL or status == "507" or "No space left" in str(error):
            return Broken(f"{self._shown} is full ({said})", todo="free some space there, or raise its quota")
        if code in _DENIED or status in {"401", "403"}:
            return Broken(
                f"{self._shown} refuses the credentials ({said})",
                todo=f"check {self._section}.key and {self._section}.secret, and what they may do there",
            )
        if code in _NO_BUCKET or status == "404":
            return Broken(
                f"there is no bucket {self._shown} ({said})",
                todo=f"create it, or correct its address and {self._section}.region",
            )
        return Transient(
            f"cannot {action} {self._shown} now ({said})",
            todo=f"try again; if it stays so, check {self._section}.endpoint and the server",
        )


def _code(error: Exception) -> str:
    """The word with which the server says what is wrong; empty when it said none."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _status(error: Exception) -> str:
    found = _STATUS.search(str(error))
    return found[1] if found else ""


def _said(error: Exception) -> str:
    """The first line, without the request."""
    return " ".join(str(error).split("\n\nDebug")[0].split()).rpartition(" - ")[2][:_MOST_SAID]
