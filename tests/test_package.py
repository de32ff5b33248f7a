"""The wheel: built, installed elsewhere and used there."""

import os
import re
import shutil
import subprocess
import sys

import bootstrap
import pytest

PACKAGED = ("setup.py", "pyproject.toml", "LICENSE", "README.md", "configs", "projects")


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr


def run(code: str, path: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's contents, built from a copy so that no build/ is left behind."""
    folder = tmp_path_factory.mktemp("package")
    source, target = folder / "source", folder / "target"
    source.mkdir()
    for name in PACKAGED:
        path = bootstrap.ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source)
    build = ("--no-deps", "--no-build-isolation")
    pip("wheel", *build, "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("vfnet_detectron2-*.whl")
    pip("install", "--no-deps", "--target", str(target), str(wheel))
    return target


def test_the_wheel_carries_every_config_of_the_repository(installed):
    def contents(folder):
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.yaml")}

    assert contents(installed / "vfnet" / "configs") == contents(bootstrap.ROOT / "configs")


def test_the_wheel_carries_the_package_alone(installed):
    assert [path.name for path in installed.iterdir() if path.suffix != ".dist-info"] == ["vfnet"]
    assert [path.name for path in installed.rglob("*") if "benchmark" in path.name.lower()] == []


def test_the_installed_package_finds_its_own_configs_and_published_weights(installed, tmp_path):
    code = """
import vfnet
print(vfnet.__version__)
print(vfnet.model_zoo.get_config_file("vfnet_R50_1x.yaml"))
print(vfnet.model_zoo.get_config("vfnet_R50_1x.yaml").MODEL.META_ARCHITECTURE)
print(vfnet.model_zoo.get_checkpoint_url("vfnet_R50_1x.yaml"))
"""
    result = run(code, str(installed), tmp_path)
    assert result.returncode == 0, result.stderr
    version, path, architecture, url = result.stdout.splitlines()
    assert (installed / f"vfnet_detectron2-{version}.dist-info").is_dir()
    assert path == str(installed / "vfnet" / "configs" / "vfnet_R50_1x.yaml")
    assert architecture == "VFNet"
    assert url.startswith("mmdet://https://") and url.endswith("-38db6f58.pth")


def test_without_detectron2_the_import_says_how_to_install_it(installed, tmp_path):
    code = """
import sys
sys.modules["detectron2"] = None  # what import takes for "not there"
import vfnet
"""
    result = run(code, str(installed), tmp_path)
    assert result.returncode == 1
    last_line = result.stderr.strip().splitlines()[-1]
    assert re.match(r"ModuleNotFoundError: .*pip install --no-build-isolation", last_line)
    assert bootstrap.DETECTRON2 in last_line
