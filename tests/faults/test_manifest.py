"""dbt's manifest cannot be read: it is parsed again when the definitions are loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestration import dbt
from orchestration.settings import Settings


@pytest.mark.parametrize("damage", ["half", "directory", "dangling"])
def test_a_manifest_that_cannot_be_read_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    settings = Settings(home=tmp_path)
    path = settings.dbt_target_dir / "manifest.json"
    path.parent.mkdir(parents=True)
    if damage == "half":
        path.write_text('{"nodes": {"a":')
    elif damage == "directory":
        path.mkdir()
    else:
        path.symlink_to(path.with_name("nowhere"))

    def parse(settings: Settings, arguments: list[str], lock: int) -> str:
        path.write_text(json.dumps({"nodes": {}}))
        return ""

    monkeypatch.setattr(dbt, "_run", parse)
    assert dbt.ensure_manifest(settings) == {"nodes": {}}
    assert path.is_file()
    assert not path.is_symlink()
