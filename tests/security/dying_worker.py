"""A worker that writes down its environment, prints it, and dies of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    text = json.dumps(dict(os.environ))
    (Path(os.environ["VOLCAST_HOME"]) / "environment.json").write_text(text)
    print(text)
    sys.exit(f"died of {text}")
