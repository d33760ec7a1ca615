"""The compose file, read: against the schema of the Compose specification, and for what the schema cannot know."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import stat
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pytest
from dagster._core.workspace.config_schema import process_workspace_config

from orchestration.settings import PROJECT_ROOT, Settings
from tests.deploy import compose

VARIABLES = {**compose.env_lines(compose.FOLDER / ".env.example")}
ONE_SHOT = {"ownership", "migrate", "backup"}
PUBLISHED = re.compile(r"[\w./-]+:(?!latest)[\w.-]*\d+\.\d+[\w.-]*")
"""An image with a version in its tag."""


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    return compose.loaded(VARIABLES)


@pytest.fixture(scope="module")
def services(file: dict[str, Any]) -> dict[str, Any]:
    found = file["services"]
    assert isinstance(found, dict)
    return found


def test_it_keeps_to_the_compose_specification() -> None:
    """The schema comes with the package check-jsonschema."""
    package = pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    schema = files(package) / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(compose.raw(), json.loads(schema.read_text()))


def test_it_asks_for_what_has_no_default() -> None:
    with pytest.raises(LookupError, match="VOLCAST_TAG: set VOLCAST_TAG to the release"):
        compose.loaded({})
    asked = {found.group(1) for found in compose.VARIABLE.finditer(compose.FILE.read_text())}
    said = (compose.FOLDER / ".env.example").read_text()
    fields = {f"VOLCAST_{name.upper()}" for name in Settings.model_fields}
    extra = {"VOLCAST_NEXT_TAG", "VOLCAST_CODE_HOST", "VOLCAST_LAKE_DATA", "VOLCAST_ARTIFACTS"}
    assert {name for name in asked if name not in said} <= fields | extra


def test_its_settings_are_settings(services: dict[str, Any]) -> None:
    """The file's own addresses, with training on Ray: on the lake, and on an embedded warehouse."""
    said = {**VARIABLES, **services["code"]["environment"], "VOLCAST_WORKERS": "ray"}
    assert Settings.from_env(said).warehouse.startswith("ducklake:postgres:dbname=lake")
    found = Settings.from_env({**said, "VOLCAST_WAREHOUSE": "", "VOLCAST_LAKE_DATA": ""})
    assert found.dagster_database.startswith("dbname=dagster host=postgres")
    names = {name for name in services["code"]["environment"] if name.startswith("VOLCAST_")}
    known = {f"VOLCAST_{name.upper()}" for name in Settings.model_fields}
    others = {"VOLCAST_SECRETS_FILE", "VOLCAST_CODE_HOST"}
    assert names <= known | others


def test_every_reference_has_its_target(file: dict[str, Any], services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, wanted in service.get("depends_on", {}).items():
            condition = wanted["condition"]
            assert other in services, (name, other)
            assert (condition == "service_completed_successfully") == (other in ONE_SHOT), name
            assert other in ONE_SHOT or "healthcheck" in services[other], (name, other)
        assert set(service.get("networks", [])) <= set(file["networks"]), name
        assert set(service.get("secrets", [])) <= set(file["secrets"]), name
        assert {item["source"] for item in service.get("configs", [])} <= set(file["configs"]), name
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            assert source in file["volumes"], (name, source)
    for item in file["configs"].values():
        assert (compose.FOLDER / item["file"]).is_file(), item
    used = {name for service in services.values() for name in service.get("secrets", [])}
    assert used == set(file["secrets"])


def test_every_image_is_pinned(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if name != "code-next":  # VOLCAST_NEXT_TAG, given when it is wanted
            assert PUBLISHED.fullmatch(service["image"]), service["image"]
    assert services["postgres"]["image"] == services["backup"]["image"]


def test_every_service_is_confined(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] != "0:0" or (name == "ownership" and service["cap_add"] == ["CHOWN"])
        assert not service.get("privileged"), name
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory"}, name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        assert name in ONE_SHOT or service["healthcheck"]["retries"] >= 2, name
        assert bool(service.get("ports")) == (name == "proxy"), name
    for port in services["proxy"]["ports"]:
        assert port.startswith(VARIABLES["VOLCAST_BIND"])
    assert all(port.startswith("127.0.0.1:") for port in compose.loaded({**VARIABLES, "VOLCAST_BIND": ""})["services"]["proxy"]["ports"])  # fmt: skip


def test_the_ports_of_code_and_databases_are_on_a_network_without_a_way_out(
    file: dict[str, Any], services: dict[str, Any]
) -> None:
    assert file["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "objects", "daemon", "webserver", "ray", "migrate", "backup"):
        assert services[name]["networks"] == ["inside"], name


def test_no_secret_stands_in_it_or_beside_it(file: dict[str, Any], tmp_path: Path) -> None:
    said = json.dumps(file) + (compose.FOLDER / ".env.example").read_text()
    assert not re.search(r"(?i)(password|secret|token)[\"']?\s*[:=]\s*[\"']?[0-9a-z]{12,}", said)
    ignored = (PROJECT_ROOT / ".gitignore").read_text()
    assert "deploy/compose/.env\n" in ignored
    assert "deploy/compose/secrets/\n" in ignored


def test_secrets_are_made_once_and_every_service_s_file_is_among_them(
    file: dict[str, Any], tmp_path: Path
) -> None:
    script = tmp_path / "make_secrets.sh"
    shutil.copy(compose.FOLDER / "make_secrets.sh", script)
    subprocess.run(["sh", script], check=True, capture_output=True)
    folder = tmp_path / "secrets"
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for item in file["secrets"].values():
        assert Path(item["file"]).name in first, item
    assert "proxy.env" in first
    (folder / "own.env").write_text("VOLCAST_SMTP_PASSWORD=of-the-desk\n")
    (folder / "ray_token").unlink()
    said = subprocess.run(["sh", script], check=True, capture_output=True, text=True).stdout
    assert said.split() == ["secrets/ray_token"]
    second = {path.name: path.read_text() for path in folder.iterdir()}
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"own.env", "ray_token", "volcast.env"}
    values = compose.env_lines(folder / "volcast.env")
    assert values["VOLCAST_SMTP_PASSWORD"] == "of-the-desk"
    assert values["VOLCAST_DAGSTER_DATABASE_PASSWORD"] == second["dagster_password"]
    identity = json.loads(second["s3_identities.json"])["identities"][0]["credentials"][0]
    assert identity["secretKey"] == values["AWS_SECRET_ACCESS_KEY"]
    assert identity["secretKey"] in second["s3_credentials"]
    assert len(set(first.values())) == len(first)


def test_its_workspace_and_its_instance_are_dagster_s_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    said = compose.loaded(VARIABLES)["services"]["daemon"]["environment"]
    monkeypatch.setenv("VOLCAST_CODE_HOST", said["VOLCAST_CODE_HOST"])
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    workspace = yaml.safe_load((compose.FOLDER / "workspace.yaml").read_text())
    assert process_workspace_config(workspace).success
    entry = workspace["load_from"][0]["grpc_server"]
    command = compose.loaded(VARIABLES)["services"]["code"]["command"]
    assert str(entry["port"]) == command[command.index("--port") + 1]
    shutil.copy(PROJECT_ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 4
        assert type(instance.run_launcher).__name__ == "DefaultRunLauncher"


@pytest.mark.parametrize("script", sorted(compose.FOLDER.glob("*.sh")), ids=lambda path: path.stem)
def test_scripts_are_shell(script: Path) -> None:
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert script.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.worker"])
def test_what_an_image_copies_and_starts_exists(name: str) -> None:
    text = re.sub(r"\\\n", " ", (PROJECT_ROOT / "deploy" / name).read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    given = (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
    stages = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert all(PUBLISHED.fullmatch(stage) for stage in stages), stages
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (PROJECT_ROOT / source).exists(), source
                assert f"!{source}" in given, source
    assert not any(line.startswith("ENTRYPOINT") for line in lines)
    install = next(line for line in lines if "uv pip install" in line)
    assert "--constraint requirements.lock" in install
    assert "USER 10001:10001" in lines


def test_the_images_install_what_the_services_need() -> None:
    import tomllib

    extras = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    text = (PROJECT_ROOT / "deploy" / "Dockerfile").read_text()
    asked = re.search(r"^ARG EXTRAS=(\S+)$", text, re.M)
    assert asked is not None
    assert {"lake", "postgres", "s3", "ray", "k8s"} == set(asked[1].split(","))
    worker = (PROJECT_ROOT / "deploy" / "Dockerfile.worker").read_text()
    assert set(re.findall(r"--extra (\w+)", worker)) == {"ray", "s3"}
    assert set(asked[1].split(",")) <= set(extras)
    lock = (PROJECT_ROOT / "requirements.lock").read_text()
    for name in ("dagster-postgres", "dagster-k8s", "ray", "s3fs", "duckdb-extension-ducklake"):
        assert re.search(rf"^{name}==", lock, re.M), name


def test_every_program_that_a_service_starts_is_installed(services: dict[str, Any]) -> None:
    import sys

    ours = [name for name, service in services.items() if service["image"].startswith(VARIABLES["VOLCAST_IMAGE"])]  # fmt: skip
    for name in ours:
        service = services[name]
        words = [*service.get("entrypoint", []), *service.get("command", [])]
        text = " ".join(words)
        for program in ("dagster", "dagster-daemon", "dagster-webserver", "volcast", "ray", "python"):  # fmt: skip
            if program in shlex.split(text.replace(";", " ").replace("&&", " ")):
                assert (Path(sys.executable).parent / program).exists(), (name, program)
