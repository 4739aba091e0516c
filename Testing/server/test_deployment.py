"""What docs/server.md and deploy/ say exists: options, variables, extras, files, limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml

from CTSAM3DLib.remote.protocol import DEFAULT_PORT, MAX_CLICKS, MAX_UPLOAD, VOLUME_HEADER
from CTSAM3DServer import admission as guard
from CTSAM3DServer import cli, run, volumes
from CTSAM3DServer.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
EVERYTHING = "\n".join([GUIDE, *(path.read_text(encoding="utf-8") for path in DEPLOY.iterdir())])
NOT_OURS = {"CTSAM3D_NAME", "CTSAM3D_UPSTREAM"}
"""What the compose file tells the reverse proxy."""


@pytest.fixture(scope="module")
def commands():
    """`serve` and its commands, by name."""
    serve = typer.main.get_command(cli.app)
    return {"serve": serve, **serve.commands["keys"].commands}


def test_every_variable_is_one_of_the_server(commands):
    known = {parameter.envvar for parameter in commands["serve"].params if parameter.envvar}
    named = set(re.findall(r"\bCTSAM3D_[A-Z_]+\b", EVERYTHING))
    assert named - NOT_OURS <= known
    assert known <= set(re.findall(r"\bCTSAM3D_[A-Z_]+\b", GUIDE))


def test_every_option_is_one_of_the_server(commands):
    lines = re.findall(r"ctsam3d(?:\.exe)? serve[^\n`#|]*|\"serve --[^\"]*", EVERYTHING)
    assert len(lines) > 10
    for line in lines:
        name = next((name for name in ("add", "list", "revoke") if f"keys {name}" in line), "serve")
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= known | {"--help"}, line


def test_every_extra_is_in_the_project():
    declared = (ROOT / "pyproject.toml").read_text()
    for extra in set(re.findall(r"\.\[([a-z]+)\]", EVERYTHING)):
        assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), extra


def test_every_file_and_benchmark_is_there():
    for path in re.findall(r"\]\(\.\./([^)#]+)\)", GUIDE):
        assert (ROOT / path).is_file(), path
    for module in re.findall(r"python -m (Testing[\w.]+)", GUIDE):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_the_guide_tells_the_limits_that_there_are():
    assert pytest.approx(2.1e6, rel=0.02) == MAX_UPLOAD
    limits = {
        "any other body": f"{guard.MAX_JSON // 1024} KiB",
        "clicks in one list": str(MAX_CLICKS),
        "requests of one user at a time": str(guard.MAX_REQUESTS),
        "connections": str(run.MAX_CONNECTIONS),
        "a body": f"{guard.BODY_S:.0f} s as a whole, {guard.BODY_PAUSE_S:.0f} s of silence",
        "a volume": f"{volumes.MAX_AXIS} voxels along an axis; {volumes.MAX_GRID // 10**6} million",
    }
    for what, limit in limits.items():
        assert f"| {what} | {limit}" in GUIDE
    assert f":{DEFAULT_PORT}" in GUIDE
    assert VOLUME_HEADER in GUIDE
    assert f"http_{VOLUME_HEADER.lower().replace('-', '_')}" in GUIDE


def test_proxies_let_the_longest_upload_through():
    nginx, caddy = (DEPLOY / "nginx.conf").read_text(), (DEPLOY / "Caddyfile").read_text()
    for size in (*re.findall(r"client_\w+_size (\d+)m;", nginx), *re.findall(r"max_size (\d+)MB", caddy)):
        assert int(size) * 10**6 > MAX_UPLOAD
    kept_alive = re.findall(r"keepalive(?:_timeout)? (\d+)s", nginx + caddy)
    assert len(kept_alive) == 2
    assert all(int(seconds) < run.KEPT_ALIVE_S for seconds in kept_alive)


def test_the_compose_file_holds_together():
    services = COMPOSE["services"]
    targets = set(re.findall(r"^FROM .* AS ([\w-]+)$", DOCKERFILE, re.MULTILINE))
    for service in services.values():
        assert service.get("build", {}).get("target", "cpu") in targets
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]
        for port in service.get("ports", ()):
            assert port in ("443:443", "127.0.0.1:9090:9090")  # the server itself speaks http, and is not open
    aliases = services["server-cpu"]["networks"]["default"]["aliases"]
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": [f"{aliases[0]}:{DEFAULT_PORT}"]}]
    assert services["proxy"]["environment"]["CTSAM3D_UPSTREAM"] == f"{aliases[0]}:{DEFAULT_PORT}"
    assert scrape["authorization"]["credentials_file"] == f"/run/secrets/{services['prometheus']['secrets'][0]}"


def test_images_are_built_from_all_that_the_project_needs():
    let_through = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / path).exists() for path in let_through)
    declared = (ROOT / "pyproject.toml").read_text()
    (packages,) = re.findall(r"^include = \[(.*?)\]", declared, re.MULTILINE)
    assert set(re.findall(r'"(\w+)\*"', packages)) <= {Path(path).name for path in let_through}
    for name in ("README.md", "LICENSE", "pyproject.toml"):
        assert name in let_through


def test_the_service_is_given_files_that_the_guide_makes():
    unit = (DEPLOY / "ctsam3d.service").read_text()
    for path in ("/opt/ctsam3d/bin/ctsam3d serve", "/var/lib/ctsam3d/keys.json"):
        assert path in unit
        assert path in GUIDE


def test_the_cluster_is_told_what_it_knows():
    pytest.importorskip("ray", reason="Ray Serve is not installed; pip install '.[cluster]'")
    from CTSAM3DServer.cluster import ClusterSettings

    config = yaml.safe_load((DEPLOY / "cluster.yaml").read_text())
    (app,) = config["applications"]
    settings = ClusterSettings(**app["args"])
    assert settings.least_replicas <= settings.most_replicas
    assert settings.models == list(Settings.models)
    assert config["http_options"]["port"] == DEFAULT_PORT
