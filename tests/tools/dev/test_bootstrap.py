"""Set-up: what it would install, what it says when it cannot, and the environment it makes."""

import subprocess
import sys
from pathlib import Path

import bootstrap
import detectron2_source
import pytest

SOURCE = "/somewhere/detectron2"


def names(steps):
    return [step.what for step in steps]


def test_plan_for_an_empty_python_puts_torch_before_detectron2_and_both_before_the_project():
    steps = bootstrap.plan(set(), SOURCE)
    assert names(steps) == [
        "the build tools",
        "torch and torchvision",
        "ninja",
        "detectron2",
        "vfnet and what it needs",
    ]
    assert steps[1].arguments == ["torch", "torchvision"]
    assert steps[3].arguments == ["--no-build-isolation", SOURCE]


def test_plan_leaves_torch_and_detectron2_that_are_there_alone():
    steps = bootstrap.plan({"torch", "detectron2"}, SOURCE)
    assert names(steps) == ["the build tools", "vfnet and what it needs"]
    arguments = [argument for step in steps for argument in step.arguments]
    assert not {"torch", "torchvision", SOURCE} & set(arguments)


def test_plan_builds_only_detectron2_against_a_torch_that_is_there():
    steps = bootstrap.plan({"torch"}, SOURCE)
    assert names(steps) == ["the build tools", "ninja", "detectron2", "vfnet and what it needs"]


def test_an_old_python_is_told_so():
    with pytest.raises(bootstrap.SetupError, match=r"Python 3\.10 or later.*this is 3\.8\.19"):
        bootstrap.check_python((3, 8, 19))


def test_a_python_without_ensurepip_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(bootstrap.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(bootstrap.SetupError, match="apt install python3-venv"):
        bootstrap.check_python((3, 11, 0))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/no/such/folder", "no such file or folder"),
        ("git+file:///no/such/repository@0123abc", "does not appear to be a git repository"),
        ("http://127.0.0.1:9/detectron2.zip", "refused"),
    ],
)
def test_an_unreachable_detectron2_gives_one_message_that_names_the_variable(source, reason):
    with pytest.raises(bootstrap.SetupError) as error:
        bootstrap.check_detectron2(source)
    assert source in str(error.value)
    assert reason in str(error.value)
    assert "DETECTRON2=" in str(error.value)


def test_a_folder_without_a_project_in_it_is_no_detectron2(tmp_path):
    assert "setup.py" in detectron2_source.why_not(str(tmp_path))
    (tmp_path / "setup.py").touch()
    assert detectron2_source.why_not(str(tmp_path)) is None


def test_the_revision_of_a_git_address_is_not_part_of_the_repository(tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path / "detectron2"], check=True)
    address = f"git+file://{tmp_path}/detectron2"
    assert detectron2_source.why_not(f"{address}@0123abc") is None
    assert detectron2_source.why_not(address) is None


def test_building_needs_a_compiler_and_a_wheel_does_not(tmp_path, monkeypatch):
    (tmp_path / "setup.py").touch()
    wheel = tmp_path / "detectron2-0.6.whl"
    wheel.touch()
    monkeypatch.setattr(detectron2_source.shutil, "which", lambda name: None)
    bootstrap.check_detectron2(str(wheel))
    with pytest.raises(bootstrap.SetupError, match=r"C\+\+ compiler"):
        bootstrap.check_detectron2(str(tmp_path))


def test_a_folder_named_from_here_becomes_absolute_and_a_url_stays():
    # pip would take a bare name for a package of an index.
    assert bootstrap.absolute("detectron2") == str(Path.cwd() / "detectron2")
    assert bootstrap.absolute(bootstrap.DETECTRON2) == bootstrap.DETECTRON2


def test_set_up_without_detectron2_ends_with_status_1_before_it_installs(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("DETECTRON2", "/no/such/folder")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "fingerprint", lambda: "")
    monkeypatch.setattr(bootstrap, "prepare", lambda venv: None)
    monkeypatch.setattr(bootstrap, "imports", lambda python, modules: False)
    monkeypatch.setattr(bootstrap, "pip_install", lambda *_: pytest.fail("installed something"))
    assert bootstrap.main() == 1
    assert capsys.readouterr().err.count("Set-up stopped") == 1
    assert not (tmp_path / ".venv" / "ready").exists()


def test_a_failed_build_of_detectron2_gives_pips_error_and_where_its_output_is(
    tmp_path, monkeypatch
):
    def fail(python, arguments, log):
        if SOURCE not in arguments:
            return True
        log.write_text("Processing\n  error: metadata-generation-failed\nhint: see above\n")
        return False

    monkeypatch.setattr(bootstrap, "check_detectron2", lambda source: None)
    monkeypatch.setattr(bootstrap, "imports", lambda python, modules: "detectron2" not in modules)
    monkeypatch.setattr(bootstrap, "pip_install", fail)
    with pytest.raises(bootstrap.SetupError) as error:
        bootstrap.install(tmp_path, SOURCE)
    message = str(error.value)
    assert f"detectron2 cannot be had from {SOURCE}" in message
    assert f"(error: metadata-generation-failed), its output is in {tmp_path}" in message


def test_a_ready_environment_is_left_alone_until_the_project_changes(tmp_path, monkeypatch):
    python = bootstrap.environment_python(tmp_path)
    python.parent.mkdir()
    python.touch()
    installed = []
    monkeypatch.setattr(bootstrap, "prepare", lambda venv: None)
    monkeypatch.setattr(bootstrap, "install", lambda *arguments: installed.append(arguments))
    for _ in range(2):
        bootstrap.bootstrap(tmp_path, SOURCE)
    assert len(installed) == 1
    monkeypatch.setattr(bootstrap, "fingerprint", lambda: "another setup.py")
    bootstrap.bootstrap(tmp_path, SOURCE)
    assert len(installed) == 2


def site_packages(venv: Path) -> Path:
    return next(venv.glob("lib/python*/site-packages"))


def where(python: Path, module: str) -> Path:
    command = [python, "-c", f"import {module}; print({module}.__file__)"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def test_the_environment_sees_a_starting_environment_and_its_own_packages_first(
    tmp_path, repository
):
    start, editable, made = tmp_path / "start", tmp_path / "editable", tmp_path / "made"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", start], check=True)
    editable.mkdir()
    (site_packages(start) / "torch").mkdir()
    (site_packages(start) / "torch" / "__init__.py").write_text("__version__ = '2.10.0+cpu'\n")
    (site_packages(start) / "torchvision.py").touch()
    (editable / "detectron2.py").touch()
    (site_packages(start) / "detectron2.pth").write_text(f"{editable}\n")

    code = "import bootstrap, pathlib, sys; bootstrap.prepare(pathlib.Path(sys.argv[1]))"
    command = [bootstrap.environment_python(start), "-c", code, made]
    subprocess.run(command, check=True, cwd=repository / "tools" / "dev", env={})

    python = bootstrap.environment_python(made)
    assert where(python, "torch") == site_packages(start) / "torch" / "__init__.py"
    assert where(python, "detectron2") == editable / "detectron2.py"
    (site_packages(made) / "torch.py").touch()
    assert where(python, "torch") == site_packages(made) / "torch.py"


def python_with_torch(folder: Path, version: str) -> Path:
    """A Python whose torch, torchvision and detectron2 are empty but for torch's version."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site_packages(folder) / "torch.py").write_text(f"__version__ = {version!r}\n")
    for name in ("torchvision.py", "detectron2.py"):
        (site_packages(folder) / name).touch()
    return bootstrap.environment_python(folder)


def test_the_oldest_torch_is_the_one_of_setup_py(tmp_path, monkeypatch):
    (tmp_path / "setup.py").write_text('install_requires=["torch>=3.4", "torchvision"]')
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    assert bootstrap.oldest_torch() == (3, 4)


def test_this_projects_oldest_torch_has_the_fixes_of_both_published_faults():
    assert bootstrap.oldest_torch() >= (2, 10)  # CVE-2025-32434 (2.6), CVE-2026-24747 (2.10)


@pytest.mark.parametrize("version", ["2.9.1", "1.13.0+cu117", "2.6.0a0"])
def test_a_starting_python_with_an_older_torch_is_named_and_not_used(
    tmp_path, monkeypatch, capsys, version
):
    python = python_with_torch(tmp_path / "start", version)
    made = tmp_path / "made"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    monkeypatch.setattr(bootstrap.sys, "executable", str(python))
    bootstrap.share(made)
    assert not (site_packages(made) / "starting_python.pth").exists()
    (line,) = capsys.readouterr().out.splitlines()
    assert str(python) in line and f"torch {version}, but 2.10 or later is needed" in line


def test_an_environment_whose_torch_has_become_too_old_is_made_anew(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "share", lambda venv: None)
    made = tmp_path / "made"
    for version, stays in (("2.10.0", True), ("2.9.1", False)):
        python_with_torch(made, version)
        (made / "ready").touch()
        bootstrap.prepare(made)
        assert (made / "ready").exists() == stays
        assert (site_packages(made) / "torch.py").exists() == stays
    assert "torch 2.9.1, but 2.10 or later is needed" in capsys.readouterr().out


@pytest.mark.parametrize("version", ["2.10.0", "2.14.1+cpu", "3.0.0"])
def test_a_torch_that_is_new_enough_is_used(tmp_path, version):
    assert bootstrap.torch_in(python_with_torch(tmp_path / "start", version)) == version
