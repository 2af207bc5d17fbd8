"""The files under deploy/ are what the tools that read them expect."""

import subprocess
from pathlib import Path

import dask
import distributed  # noqa: F401 (its settings' names)
import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"


def test_every_setting_of_dask_is_one() -> None:
    (ours,) = dask.config.collect_yaml([str(DEPLOY / "dask.yaml")])
    for name in names(ours):
        # Raises KeyError for a name that Dask's own settings do not have.
        dask.config.get(name)


def names(settings: object, prefix: str = "") -> list[str]:
    if not isinstance(settings, dict):
        return [prefix]
    return [
        name
        for key, value in settings.items()
        for name in names(value, f"{prefix}.{key}" if prefix else key)
    ]


def test_kubernetes_and_slurm_files_parse() -> None:
    cluster = yaml.safe_load((DEPLOY / "kubernetes" / "cluster.yaml").read_text())
    assert cluster["kind"] == "DaskCluster"
    for role in ("worker", "scheduler"):
        (container,) = cluster["spec"][role]["spec"]["containers"]
        assert container["args"][:2] == ["dask", role]
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        volumes = {
            volume["name"] for volume in cluster["spec"][role]["spec"]["volumes"]
        }
        assert mounts == volumes
    slurm = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())
    settings = slurm["jobqueue"]["slurm"]
    assert settings["cores"] == settings["processes"], "one thread each"
    assert settings["protocol"] == "tls://"


@pytest.mark.parametrize(
    "script", ["certificates", "ssh/start", "slurm/workers.sbatch"]
)
def test_scripts_are_scripts(script: str) -> None:
    path = DEPLOY / script
    shell = path.read_text().partition("\n")[0].removeprefix("#!")
    subprocess.run([shell, "-n", path], check=True)


def test_certificates_are_made_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    subprocess.run([DEPLOY / "certificates", folder], check=True, capture_output=True)
    for role in ("scheduler", "worker", "client"):
        subprocess.run(
            ["openssl", "verify", "-CAfile", folder / "ca.pem", folder / f"{role}.pem"],
            check=True,
            capture_output=True,
        )
        assert (folder / f"{role}.key").stat().st_mode & 0o077 == 0
