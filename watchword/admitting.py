"""Who may call and how often, wired from the settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from proto.access import needs_token, nobody_asked
from proto.rates import Rates
from watchword.settings import Settings

if TYPE_CHECKING:
    from catalog.store import Catalog
    from gateway.guard import App
    from identity.checking import Checker
    from query.callers import TokenCallers


def rates_of(settings: Settings) -> Rates | None:
    """How often each token may call; None without a limit."""
    access = settings.access
    return Rates(access.rate, access.rate_burst) if access.rate else None


def checker_of(settings: Settings, closing: AsyncExitStack) -> Checker | None:
    """Who checks the tokens of the issuer that the settings name; None without one."""
    if not settings.oidc.issuer:
        return None
    from identity.checking import Checker

    checker = Checker(settings.oidc)
    closing.push_async_callback(checker.close)
    return checker


def callers_of(settings: Settings, catalog: Catalog, closing: AsyncExitStack) -> TokenCallers:
    """Who calls the query service, by tokens of the catalog and of the issuer."""
    from catalog.cameras import CameraRegistry
    from catalog.known_tokens import KnownTokens
    from catalog.tokens import TokenRegistry
    from query.callers import TokenCallers

    access = settings.access
    return TokenCallers(
        KnownTokens(TokenRegistry(catalog), access.known_for_s, cameras=CameraRegistry(catalog)),
        needed=needs_token(access.open_to, settings.query.listen),
        nobody=nobody_asked(access.open_to, named=bool(settings.gateway.hosts)),
        people=checker_of(settings, closing),
        rates=rates_of(settings),
    )


def login_of(settings: Settings, closing: AsyncExitStack, *, needed: bool) -> Callable[[App], App] | None:
    """What has browsers log in, to be put around the gateway's application; None without a login."""
    checker = checker_of(settings, closing) if settings.oidc.has_login else None
    if checker is None:
        return None
    from gateway.login import Login

    return partial(Login, issuers=checker, settings=settings.oidc, needs_token=needed)
