"""Who may call and how often, wired from the settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from proto.rates import Rates
from watchword.settings import Settings

if TYPE_CHECKING:
    from gateway.guard import App
    from identity.checking import Checker


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


def login_of(settings: Settings, closing: AsyncExitStack, *, needed: bool) -> Callable[[App], App] | None:
    """What has browsers log in, to be put around the gateway's application; None without a login."""
    checker = checker_of(settings, closing) if settings.oidc.has_login else None
    if checker is None:
        return None
    from gateway.login import Login

    return partial(Login, issuers=checker, settings=settings.oidc, needs_token=needed)
