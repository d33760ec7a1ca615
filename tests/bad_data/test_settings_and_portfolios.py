"""Every bad setting and portfolio is an error that quotes it, within a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_data.corpus import Refused, SettingFault
from tests.bad_data.setting_faults import FAULTS


@pytest.mark.timeout(20)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_bad_setting_or_portfolio_is_refused(fault: SettingFault, tmp_path: Path) -> None:
    assert isinstance(fault.outcome, Refused)
    with pytest.raises(ValueError, match=fault.outcome.message):
        fault.make(tmp_path)
