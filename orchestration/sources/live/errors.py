"""What can go wrong with a provider, told apart by what the platform does about it.

In: a provider, an endpoint and what was seen. Out: exceptions. Never holds a query string, in which a key may be, or a secret.
"""

from __future__ import annotations

from orchestration.secrets import mask
from orchestration.sources.protocol import SourceError


class ProviderError(SourceError):
    """A provider did not give what was asked for. ``status`` is the word that tables and people see."""

    status = "failed"

    def __init__(self, provider: str, endpoint: str, detail: str) -> None:
        detail = mask(detail)  # some providers repeat the key that they refuse
        super().__init__(f"{provider} {endpoint}: {detail}")
        self.provider, self.endpoint, self.detail = provider, endpoint, detail


class ProviderUnavailable(ProviderError, ConnectionError):
    """Network, time-out, 429 or 5xx after every retry, or an open circuit: worth asking again later."""

    status = "unavailable"


class ProviderRefused(ProviderError):
    """A 4xx other than 408, 425 and 429: asking again gives the same answer."""

    status = "refused"

    def __init__(
        self, provider: str, endpoint: str, detail: str, http_status: int | None = None
    ) -> None:
        super().__init__(provider, endpoint, detail)
        self.http_status = http_status


class ShapeChanged(ProviderError):
    """The answer is not what the provider documents; the message names the field."""

    status = "changed shape"


class NotListed(ProviderError):
    """The provider does not have this coin, symbol or metric (any more)."""

    status = "not listed"
