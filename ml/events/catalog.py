"""Every detector by name. In: nothing. Out: ``DETECTORS`` and the columns that they read."""

from __future__ import annotations

from ml.events.detector import Detector
from ml.events.funding_squeeze import FUNDING_SQUEEZE
from ml.events.large_transfers import LARGE_TRANSFERS
from ml.events.liquidity_dry_up import LIQUIDITY_DRY_UP

DETECTORS: dict[str, Detector] = {
    detector.name: detector for detector in (LIQUIDITY_DRY_UP, LARGE_TRANSFERS, FUNDING_SQUEEZE)
}
COLUMNS: tuple[str, ...] = tuple(
    dict.fromkeys(name for detector in DETECTORS.values() for name in detector.needs)
)
