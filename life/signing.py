"""What an installation signs: receipts of erasures, and exports. JSON with an Ed25519 signature inside.

The key belongs to the installation and lies in its catalog, since every machine may sign and none needs another one's
disk. The signature says that this installation issued the document and nobody changed it since.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from proto.errors import Invalid

_KEY = "receipts"


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of signed document."""

    name: str
    """As it stands in the document, with its version."""
    what: str
    """In words."""
    todo: str
    """What to give where such a document is expected."""


class Keys(Protocol):
    """Where the installation's key is kept. Blocks."""

    def key(self, name: str, new: bytes) -> bytes:
        """The key with this name; `new` where there was none."""


class Signer:
    """Signs as one installation."""

    def __init__(self, keys: Keys, given: str = "") -> None:
        """`given` is a private key in base64 to sign with; without it the key in `keys` is used, or made there."""
        if given:
            self._private = _private(given)
        else:
            new = Ed25519PrivateKey.generate().private_bytes_raw()
            self._private = Ed25519PrivateKey.from_private_bytes(keys.key(_KEY, new))

    @property
    def installation(self) -> str:
        """Names the installation by its public key."""
        return _text(self._private.public_key().public_bytes_raw())

    def signed(self, form: Form, told: Mapping[str, Any]) -> dict[str, Any]:
        """The document with its signature."""
        whole = {"form": form.name, "installation": self.installation, **told}
        return {**whole, "signature": _text(self._private.sign(_canonical(whole)))}

    def check(self, form: Form, document: object) -> None:
        """Raise Invalid unless this installation issued it as it is."""
        if _told(form, document).get("installation") != self.installation:
            raise Invalid(
                f"another installation issued this {form.what}",
                todo="verify it with that one's catalog: catalog.url, data_dir",
            )
        issuer_of(form, document)


def issuer_of(form: Form, document: object) -> str:
    """The public key whose owner issued the document as it is. Raises Invalid when it was changed since."""
    told = _told(form, document)
    installation = str(told.get("installation"))
    signature = str(told.pop("signature", ""))
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(installation, validate=True))
        public.verify(base64.b64decode(signature, validate=True), _canonical(told))
    except (InvalidSignature, ValueError) as error:
        raise Invalid(
            f"the {form.what} was changed after it was signed", todo="get it again from who issued it"
        ) from error
    return installation


def _told(form: Form, document: object) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("form") != form.name:
        raise Invalid(f"this is no {form.what}", todo=form.todo)
    return dict(document)


def _private(given: str) -> Ed25519PrivateKey:
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(given, validate=True))
    except ValueError:
        raise Invalid(
            "retention.signing_key is no Ed25519 key", todo="give 32 bytes in base64: head -c 32 /dev/urandom | base64"
        ) from None


def _canonical(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
