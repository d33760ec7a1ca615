"""Prints docs/settings.md: `python docs/settings.py > docs/settings.md`."""

from __future__ import annotations

from orchestration.settings import PREFIX, PROJECT_ROOT, Settings

HEAD = """# Settings

Every setting is an environment variable; an empty value means the default. This file is the output of `python docs/settings.py`.
Secrets are no settings: [security](../SECURITY.md).
"""


def table() -> str:
    """One Markdown row per setting: variable, default, meaning."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if name == "home":
            default = default.relative_to(PROJECT_ROOT)
        shown = ",".join(default) if isinstance(default, tuple) else default
        cell = f"`{shown}`" if shown not in (None, "", {}) else ""
        lines.append(f"| `{PREFIX}{name.upper()}` | {cell} | {field.description} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(HEAD)
    print(table())
