"""Whose request it is: its token goes to the query service, which alone says whether it counts and for what."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Generic, TypeVar

from gateway.queries import OnBehalf
from proto.errors import Unauthenticated

_TOKEN = re.compile(r"[!-~]{1,6000}")
"""What may stand in a header and in gRPC's metadata: also a JSON Web Token (`identity.jwts.MOST_BYTES`)."""
_TODO = "send the header `authorization: Bearer TOKEN`; `watchword token create NAME` makes one"


Asked = TypeVar("Asked", bound=OnBehalf)


class Entrance(Generic[Asked]):
    """The query service, for one caller after the other."""

    def __init__(self, queries: Asked, *, needed: bool) -> None:
        """`needed`: whether requests without a token are refused here."""
        self._queries = queries
        self._needed = needed

    def of(self, authorization: Iterable[str], client: str) -> Asked:
        """The query service for whoever sent these `authorization` headers. Unauthenticated without a good one."""
        given = list(authorization)
        if not given:
            if self._needed:
                raise Unauthenticated("a token is needed here", todo=_TODO)
            return self._queries.on_behalf("", client)
        kind, _, token = given[0].partition(" ")
        token = token.strip()
        if len(given) > 1 or kind.lower() != "bearer" or not _TOKEN.fullmatch(token):
            raise Unauthenticated("the authorization is no bearer token", todo=_TODO)
        return self._queries.on_behalf(token, client)
