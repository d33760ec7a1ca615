"""Secrets: where they come from, and how they are kept out of everything that is written.

In: environment variables, and the lines ``NAME=VALUE`` of the file that ``VOLCAST_SECRETS_FILE`` names. Out: a secret's value for who
needs it, text with every secret replaced by ``***``, and an environment without any for child processes. Never: a value in a message, a
file that others may read, or one inside the repository or the home, which backups copy.

Which variables are secret: every one of the file, and those of the environment whose names say so (``..._API_KEY``, ``..._PASSWORD``,
``..._TOKEN``, ``..._SECRET``, ``VOLCAST_ALERT_..._URL``). A password or token inside the address of another variable is one too. What is
not ours (no ``VOLCAST_``) and an ordinary short word or number, such as a database's password "volcast", is not: it would take our own text with it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from orchestration.secret_forms import SHORTEST, pattern_of

SECRETS_FILE = "VOLCAST_SECRETS_FILE"
MASK = "***"

_REPOSITORY = Path(__file__).resolve().parent.parent
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|KEY|TOKEN|SECRET|PASSPHRASE|CREDENTIALS?|DSN)$"
    r"|(?:PASSWORD|PASSWD|_PWD)$|^VOLCAST_ALERT_.*_URL$"  # PGPASSWORD and MYSQL_PWD, and not PWD
)
_ALWAYS_KEPT = frozenset({"PATH", "HOME", "VOLCAST_HOME", "DAGSTER_HOME"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ORDINARY = re.compile(r"[A-Za-z]?[a-z]{1,14}|[A-Z]{1,15}|[0-9]{1,8}")
_PARAMETER = r"[\w.-]*(?:api[_-]?key|access[_-]?key|token|secret|password|passwd|signature)"
_USERINFO = re.compile(r"(?<=://)([^\s/?#\"'\\<>]*)@(?=[^\s/?#@])")
_PASSWORD_OF_USER = re.compile(r"(?<=://)[^\s/?#@:]*:[^\s/?#@]+@")
_QUERY = re.compile(
    rf"([?&;](?:{_PARAMETER}=|(?:key|sig|auth)=(?=[^&;,\s\"'\\<>]{{8}})))([^&;,\s\"'\\<>]+)",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(  # as in libpq's "host=db password=word", where a value may be quoted
    r"((?<![\w-])(?:\w{0,40}(?:password|passwd)|(?:\w{1,40}_)?pwd(?=\s{0,3}=\s{0,3}[^\s/])"
    r"|(?:token|secret)(?=\s{0,3}=\s{0,3}[^\s/]{8}))\s{0,3}=\s{0,3})"
    r"(\\{0,8}'(?:[^'\\]|\\[^'])+(?:\\{0,8}')?|[^\s\"'\\<>&;,)\]}]+)",
    re.IGNORECASE,
)
_HEADERS = r"((?i:authorization|x-api-key|api-key|cookie)[\"']?\s{0,3}[:=]\s{0,3}[\"']?"
_ANY_DIGIT = r"(?=[^\s\"'\\,;}]*[0-9])[^\s\"'\\,;}]{16,}"
_HEADER = re.compile(
    rf"{_HEADERS}(?i:basic|bearer|token|digest)\s{{1,3}})((?=[^\s\"'\\,;}}]*(?:[A-Z0-9+/=_~-]|\.\w))[^\s\"'\\,;}}]{{6,}})"
)
_BARE_HEADER = re.compile(rf"{_HEADERS})({_ANY_DIGIT})")
_BEARER = re.compile(rf"(\b(?i:bearer)\s{{1,3}})({_ANY_DIGIT})")
_HOOK = re.compile(r"(hooks\.slack(?:-gov)?\.com/)([^\s\"'\\<>]+)", re.IGNORECASE)


class SecretsError(ValueError):
    """The secrets file or a secret cannot be used; the message names it and never quotes a value."""


def secret(name: str) -> str | None:
    """The secret of the variable ``name``, such as VOLCAST_SMTP_PASSWORD: the environment's, else the file's; None without one.

    Raises ``SecretsError`` for a secrets file that must not be used, and for a value that is too short to be masked.
    """
    value = os.environ.get(name, "").strip() or from_file().get(name, "")
    if not value:
        return None
    if len(value) < SHORTEST:
        raise SecretsError(
            f"{name} has {len(value)} characters: expected at least {SHORTEST}, a shorter one cannot be masked in logs"
        )
    return value


def from_file() -> Mapping[str, str]:
    """The variables of the secrets file; none where ``VOLCAST_SECRETS_FILE`` is not set. Raises ``SecretsError``."""
    named = os.environ.get(SECRETS_FILE, "").strip()
    if not named:
        return {}
    path = Path(named).expanduser().absolute()
    home = os.environ.get("VOLCAST_HOME", "").strip() or str(_REPOSITORY / ".volcast")
    try:
        resolved = path.resolve(strict=True)
        found = resolved.stat()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a loop of links"
        raise SecretsError(f"{SECRETS_FILE}={named}: cannot be read ({reason})") from None
    return _parsed(named, path, resolved, Path(home).expanduser().resolve(), found.st_ctime_ns)


@lru_cache(maxsize=4)
def _parsed(
    named: str, path: Path, resolved: Path, home: Path, changed_ns: int
) -> Mapping[str, str]:
    for folder, what in ((_REPOSITORY, "the repository"), (home, "VOLCAST_HOME")):
        if resolved.is_relative_to(folder) or path.is_relative_to(folder):
            raise SecretsError(
                f"{SECRETS_FILE}={named}: lies inside {what} ({folder}), which is copied and shared: keep it elsewhere, such as "
                "/etc/volcast/secrets.env"
            )
    content = _content(named, resolved)
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise SecretsError(f"{SECRETS_FILE}={named}: expected UTF-8 text") from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not _VARIABLE.fullmatch(name):
            raise SecretsError(f"{SECRETS_FILE}={named} line {number}: expected NAME=VALUE")
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[name] = value
    return values


def is_private(mode: int, owner: int, *, read_only: bool) -> bool:
    """Whether a secrets file is for its owner alone, or as private as who hands it to a container can make it.

    Kubernetes and systemd give files of root that the service's group reads, Docker gives files that all in the container read; both mount them read-only.
    """
    tolerated = 0
    if owner == 0 or read_only:
        tolerated |= stat.S_IRGRP
    if read_only:
        tolerated |= stat.S_IROTH
    return not mode & (stat.S_IRWXG | stat.S_IRWXO) & ~tolerated


def _content(named: str, path: Path) -> bytes:
    """What the file holds. The file that is looked at is the file that is read; there is no waiting for a named pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SecretsError(f"{SECRETS_FILE}={named}: cannot be read ({error.strerror})") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SecretsError(f"{SECRETS_FILE}={named}: expected a plain file")
        read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
        if not is_private(found.st_mode, found.st_uid, read_only=read_only):
            raise SecretsError(
                f"{SECRETS_FILE}={named}: group or others may use it (mode {stat.S_IMODE(found.st_mode):04o}): run `chmod 600 {named}`"
            )
        if found.st_uid not in (os.geteuid(), 0):
            raise SecretsError(
                f"{SECRETS_FILE}={named}: belongs to user {found.st_uid}: expected this user ({os.geteuid()}) or root"
            )
        return os.read(descriptor, 1 << 20)
    finally:
        os.close(descriptor)


def mask(text: str) -> str:
    """``text`` with every known secret, in whatever form, and everything that looks like a credential replaced by ``***``. Never raises."""
    text = mask_known(text)
    if "://" in text:
        text = _USERINFO.sub(MASK + "@", text)
    for pattern in (_QUERY, _ASSIGNED, _HEADER, _BARE_HEADER, _BEARER, _HOOK):
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text


def mask_address(address: str) -> str:
    """``address`` with the password in it, of a URL or of libpq's words, replaced by ``***``."""
    return _ASSIGNED.sub(
        rf"\g<1>{MASK}", _QUERY.sub(rf"\g<1>{MASK}", _PASSWORD_OF_USER.sub(MASK + "@", address))
    )


def mask_known(text: str) -> str:
    """``text`` with every known secret, in whatever form, replaced by ``***``: for data, of which nothing else may be changed."""
    known = pattern_of(_known_values())
    return text if known is None else known.sub(MASK, text)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What of ``environment`` a child process that needs no secret is given: no variable that is one, or has one in an address."""
    values = _known_values()
    withheld = {SECRETS_FILE, *_from_file_or_nothing()} - _ALWAYS_KEPT
    return {
        name: value
        for name, value in environment.items()
        if name in _ALWAYS_KEPT
        or not (
            name in withheld
            or _names_a_secret(name)
            or any(pattern.search(value) for pattern in (_USERINFO, _QUERY, _ASSIGNED))
            or (value.strip() in values and not name.startswith("VOLCAST_"))
        )
    }


def _from_file_or_nothing() -> Mapping[str, str]:
    """A file that is refused was never used, so nothing of it can be anywhere."""
    try:
        return from_file()
    except (SecretsError, OSError):
        return {}


@lru_cache(maxsize=1024)
def _names_a_secret(variable: str) -> bool:
    return _SECRET_NAME.search(variable.upper()) is not None


def _known_values() -> frozenset[str]:
    values: set[str] = set()
    for value in _from_file_or_nothing().values():
        values |= _secret_parts(value, whole=True)
    for name, value in os.environ.items():
        if len(value) < SHORTEST:
            continue
        parts = _secret_parts(value, whole=_names_a_secret(name))
        if name.startswith("VOLCAST_"):
            values |= parts
        else:  # not ours: another program's password "forecasts" must not eat our text
            values.update(part for part in parts if not _ORDINARY.fullmatch(part))
    return frozenset(values)


@lru_cache(maxsize=1024)
def _secret_parts(value: str, *, whole: bool) -> frozenset[str]:
    """What of a value is secret: what an address carries, and where ``whole`` the value itself, and each of its lines."""
    text = value.strip()
    found = []
    if "://" in text:
        for address in _USERINFO.finditer(text):
            word = address[1].partition(":")[2]
            found += [word, unquote(word), address[1]]
        for parameter in _QUERY.finditer(text):
            found += [parameter[2], unquote(parameter[2])]
    found += [assigned[2].strip("\\'") for assigned in _ASSIGNED.finditer(text)]
    if whole and not _is_plain_setting(text):
        found.append(text)
        lines = [line.strip() for line in text.splitlines()]
        if len(lines) > 1:
            found += [line for line in lines if len(line) >= 16 and not line.startswith("-----")]
    return frozenset(filter(_long, found))


def _long(text: str) -> bool:
    return len(text) >= SHORTEST


def _is_plain_setting(text: str) -> bool:
    """A list of mirrors in the secrets file is secret for its passwords only, which are known by themselves."""
    return "=http" in text and "://" in text
