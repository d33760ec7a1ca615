"""Live data from real providers; see ``source`` for the whole and ``transport`` for how a provider is asked."""

from orchestration.sources.live.config import LiveConfig
from orchestration.sources.live.source import LiveSource

__all__ = ["LiveConfig", "LiveSource"]
