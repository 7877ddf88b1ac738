"""Clients of the servers that the settings name, as this machine's own commands use them."""

from __future__ import annotations

from query.client import QueryClient
from watchword.settings import Settings
from watchword.stack import query_address


def query_client(settings: Settings, address: str | None = None) -> QueryClient:
    """A client of the query service, at another address if one is given, with the token of the settings."""
    token = settings.access.token.get_secret_value()
    return QueryClient(address or query_address(settings), settings.query.timeout_s, token=token, tls=settings.query)
