"""Where secrets may come from, and what ``mask`` takes out of text."""

from __future__ import annotations

import base64
import html
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.secrets import (
    MASK,
    SecretsError,
    from_file,
    is_private,
    mask,
    secret,
    without_secrets,
)

KEY = 'pl@nted+k/y="Zq9&7ü'
NAME = "VOLCAST_COINMETRICS_API_KEY"


@pytest.fixture
def secrets_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """secrets_file(text) -> a file that the process is told to read."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("VOLCAST_HOME", str(tmp_path / "home"))

    def write(text: str) -> Path:
        path = tmp_path / "secrets.env"
        path.write_text(text)
        path.chmod(0o600)
        monkeypatch.setenv("VOLCAST_SECRETS_FILE", str(path))
        return path

    return write


def test_a_secret_comes_from_the_file_and_the_environment_goes_first(
    secrets_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets_file(
        "# provider keys\n\nVOLCAST_COINMETRICS_API_KEY = from-the-file\nexport VOLCAST_SMTP_PASSWORD='a = b #c'\n"
    )
    assert secret(NAME) == "from-the-file"
    assert secret("VOLCAST_SMTP_PASSWORD") == "a = b #c"
    assert secret("VOLCAST_ALERT_SLACK_URL") is None
    monkeypatch.setenv(NAME, "from-the-environment")
    assert secret(NAME) == "from-the-environment"


def test_a_file_that_others_may_read_is_refused(secrets_file: Callable[[str], Path]) -> None:
    path = secrets_file(f"{NAME}=abcdefgh\n")
    assert secret(NAME) == "abcdefgh"
    for mode in (0o620, 0o604, 0o660, 0o601):
        path.chmod(mode)
        with pytest.raises(SecretsError, match=rf"mode {mode:04o}\): run `chmod 600"):
            secret(NAME)


@pytest.mark.parametrize(
    ("mode", "owner", "read_only", "private"),
    [
        (0o400, 10001, False, True),
        (0o440, 0, False, True),  # systemd's credentials
        (0o440, 10001, True, True),  # Kubernetes with fsGroup
        (0o444, 0, True, True),  # Docker
        (0o440, 10001, False, False),
        (0o444, 0, False, False),
        (0o620, 0, True, False),
        (0o602, 0, True, False),
    ],
)
def test_files_that_containers_are_given_are_private_enough(
    mode: int, owner: int, read_only: bool, private: bool
) -> None:
    assert is_private(0o100000 | mode, owner, read_only=read_only) is private


@pytest.mark.parametrize("folder", ["repository", "home"])
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_inside_the_repository_or_the_home_is_refused(
    secrets_file: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    linked: bool,
) -> None:
    inside = (tmp_path / "home") if folder == "home" else tmp_path / "checkout"
    inside.mkdir(exist_ok=True)
    monkeypatch.setattr("orchestration.secrets._REPOSITORY", tmp_path / "checkout")
    path = inside / ".env"
    path.write_text(f"{NAME}=abcdefgh\n")
    path.chmod(0o600)
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    monkeypatch.setenv("VOLCAST_SECRETS_FILE", str(path))
    with pytest.raises(SecretsError, match="lies inside"):
        secret(NAME)


def test_a_line_that_is_no_assignment_is_named_and_not_quoted(
    secrets_file: Callable[[str], Path],
) -> None:
    secrets_file("VOLCAST_SEED=1\nhunter2-hunter2\n")
    with pytest.raises(SecretsError, match="line 2: expected NAME=VALUE") as raised:
        from_file()
    assert "hunter2" not in str(raised.value)


def test_a_missing_file_a_folder_and_a_pipe_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name, message in (
        ("none", "cannot be read"),
        ("pipe", "expected a plain file"),
        ("folder", "expected a plain file"),
    ):
        monkeypatch.setenv("VOLCAST_SECRETS_FILE", str(tmp_path / name))
        with pytest.raises(SecretsError, match=message):
            secret(NAME)
        mask("a fault of the file never stops a log line")


def test_a_secret_too_short_to_be_masked_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLCAST_SMTP_PASSWORD", "12345")
    with pytest.raises(SecretsError, match="5 characters: expected at least 6") as raised:
        secret("VOLCAST_SMTP_PASSWORD")
    assert "12345" not in str(raised.value)


FORMS = {
    "as it is": lambda key: key,
    "in a URL's path": quote,
    "in a query": lambda key: quote(key, safe=""),
    "in a form": quote_plus,
    "in lower-case hex": lambda key: (
        quote(key, safe="").replace("%2B", "%2b").replace("%3D", "%3d")
    ),
    "in JSON": lambda key: json.dumps({"key": key}),
    "in JSON of JSON": lambda key: json.dumps(json.dumps({"key": key})),
    "as a literal": lambda key: repr({"key": key}),
    "in HTML": html.escape,
    "in base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "in basic auth": lambda key: base64.b64encode(f"desk:{key}".encode()).decode(),
    "in basic auth of another user": lambda key: base64.b64encode(f"risk:{key}x".encode()).decode(),
    "in hex": lambda key: key.encode().hex(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", ["environment", "file"])
def test_every_form_of_a_secret_is_masked(
    secrets_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, form: str, by: str
) -> None:
    if by == "file":
        secrets_file(f"VOLCAST_ANYTHING={KEY}\n")
    else:
        monkeypatch.setenv(NAME, KEY)
    written = FORMS[form](KEY)
    shown = mask(f"401 from the provider: {written} was refused")
    assert MASK in shown
    for part in (KEY, quote(KEY, safe=""), written[6:-6]):
        assert part not in shown
    assert shown.startswith("401 from the provider: ")
    assert shown.endswith(" was refused")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://desk:p4ss@mirror.example/btc", "https://***@mirror.example/btc"),
        ("https://desk:p@ss@mirror.example/btc", "https://***@mirror.example/btc"),
        ("postgresql://u:p@db:5432/x", "postgresql://***@db:5432/x"),
        ("GET /v4?assets=btc&api_key=abc123&page=2", "GET /v4?assets=btc&api_key=***&page=2"),
        ("{'Authorization': 'Basic ZGVzazpwYXNz'}", "{'Authorization': 'Basic ***'}"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("x-api-key: 0123456789abcdef", "x-api-key: ***"),
        ("got a bearer 0123456789abcdef back", "got a bearer *** back"),
        (
            "VOLCAST_WAREHOUSE='host=db password=pw1 dbname=x'",
            "VOLCAST_WAREHOUSE='host=db password=*** dbname=x'",
        ),
        ("libpq: user=u password = 'two words' port=1", "libpq: user=u password = *** port=1"),
        ("PGPASSWORD=abc MYSQL_PWD=def", "PGPASSWORD=*** MYSQL_PWD=***"),
        ("https://hooks.slack.com/services/T0/B0/x9 -> 404", "https://hooks.slack.com/*** -> 404"),
    ],
)
def test_what_looks_like_a_credential_is_masked_though_nobody_told(text: str, shown: str) -> None:
    assert mask(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "raw.ohlcv: 12 rows offered, 3 new; token budget: 512",
        "https://www.coindesk.com/markets?page=2 by bob@example.org",
        "key (asset, as_of): BTC 2024-03-20; basic statistics of attention",
        "attention_config={'learning_rate': 0.002}",
        "bearer infrastructure; Authorization: required for this; the cookie: chocolate",
        "authorization: basic authentication failed",
        "https://api.example/v1?key=BTC&sig=up&auth=no",
        "PWD=/srv/volcast OLDPWD=/root pwd=/srv token=7",
    ],
)
def test_text_without_a_secret_is_left_alone(text: str) -> None:
    assert mask(text) == text


def test_credentials_inside_a_setting_are_secret_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "VOLCAST_BASE_URLS", "gdelt=https://desk:mirror-pass@m.example,*=https://m.example"
    )
    monkeypatch.setenv(
        "VOLCAST_HEADLINE_FEEDS", "wire=https://w.example/rss?token=feed-token-1&x=1"
    )
    assert (
        mask("mirror-pass and feed-token-1 at https://m.example")
        == "*** and *** at https://m.example"
    )


def test_children_are_given_no_secret(
    secrets_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets_file("VOLCAST_PAGER=from-the-file\n")
    environment = {
        "PATH": "/bin",
        "VOLCAST_HOME": "/srv/volcast",
        "VOLCAST_BASE_URLS": "*=http://127.0.0.1:1/",
        "AWS_SECRET_ACCESS_KEY": "abcdefgh",
        "HTTPS_PROXY": "http://me:word@proxy:3128",
        "VOLCAST_PAGER": "x",
        "COPY": "from-the-file",
        "DATABASE": "ducklake:postgres:dbname=lake password=SuperSecretPw1",
        "PGPASSWORD": "abcdefgh",
        "MYSQL_PWD": "abcdefgh",
        "VOLCAST_SECRETS_FILE": "/etc/volcast/secrets.env",
        NAME: KEY,
    }
    assert set(without_secrets(environment)) == {"PATH", "VOLCAST_HOME", "VOLCAST_BASE_URLS"}


_EDGE = "-----{} PRIVATE" + " KEY-----"  # in two: no key-like text is in the repository
PEM = "\n".join(
    [
        _EDGE.format("BEGIN"),
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
        _EDGE.format("END"),
    ]
)


@pytest.mark.parametrize(
    "write",
    [str, repr, json.dumps, html.escape, quote, lambda text: text.replace("\n", "\r\n"),
     lambda text: repr(json.dumps(text)), lambda text: text.splitlines()[2]],
)  # fmt: skip
def test_no_form_of_a_secret_of_many_lines_gets_through(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[str], str]
) -> None:
    monkeypatch.setenv("DESK_PRIVATE_KEY", PEM)
    shown = mask(f"refused: {write(PEM)}")
    assert MASK in shown
    assert not [line for line in PEM.splitlines()[1:3] if line in shown]


def test_the_password_of_an_address_is_known_wherever_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "VOLCAST_WAREHOUSE", "ducklake:postgres:dbname=lake host=db password=SuperSecretPw1"
    )
    assert mask("no entry for SuperSecretPw1 at lake") == "no entry for *** at lake"


def test_another_programs_password_that_is_a_word_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTGRES_PASSWORD", "volcast")
    monkeypatch.setenv("GRAFANA_ADMIN_PASSWORD", "forecasts")
    monkeypatch.setenv("DATABASE_URL", "postgres://volcast:volcast@db/volcast")
    assert mask("forecasts.volatility of volcast") == "forecasts.volatility of volcast"
    monkeypatch.setenv("VOLCAST_SMTP_PASSWORD", "forecasts")  # ours is masked, whatever it is
    assert mask("forecasts") == MASK


def test_children_keep_what_they_need_whatever_the_secrets_are(
    secrets_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets_file("VOLCAST_SMTP_PASSWORD=volcast-1\nHOME=/home/volcast-1\n")
    kept = {
        "PATH": "/opt/volcast-1/bin:/bin",
        "HOME": "/home/volcast-1",
        "VOLCAST_HOME": "volcast-1",
        "DAGSTER_HOME": "/srv/volcast-1/dagster",
        "VOLCAST_SOURCE": "volcast-1",
        "LD_LIBRARY_PATH": "/opt/volcast-1/lib",
    }
    assert without_secrets(kept | {"PASS": "volcast-1"}) == kept


@pytest.mark.parametrize("key", ["-begins-with-a-dash", "\\\\x\\\\", "<&\"'>ü<&"])
def test_long_runs_of_backslashes_cost_little(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(NAME, key)
    started = time.perf_counter()
    mask("\\" * 200_000)
    mask("password" * 5_000 + " " * 50_000)
    assert time.perf_counter() - started < 2


@settings(max_examples=200, deadline=None)
@given(
    key=st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]),
        min_size=6,
        max_size=40,
    ),
    before=st.text(max_size=12),
    after=st.text(max_size=12),
)
def test_no_text_around_a_secret_lets_it_through(key: str, before: str, after: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(NAME, key)
        assert key not in mask(before + key + after).replace(MASK, "")
        encoded = base64.b64encode((before + key + after).encode()).decode()
        assert (
            base64.b64encode(key.encode()).decode().rstrip("=")[:-1] not in mask(encoded)
            or len(key.encode()) < 8
        )
