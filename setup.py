"""The distribution `vfnet-detectron2`: the package `vfnet` and the configs that it carries."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = "projects/VFNet/vfnet"


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def version() -> str:
    """Read the version as text: importing the package would need torch and detectron2."""
    match = re.search(r'^__version__ = "(.+)"$', read(f"{PACKAGE}/__init__.py"), re.MULTILINE)
    if match is None:
        raise RuntimeError(f'{PACKAGE}/__init__.py has no line `__version__ = "..."`')
    return match.group(1)


setup(
    name="vfnet-detectron2",
    version=version(),
    description="VarifocalNet (VFNet), an IoU-aware dense object detector, for Detectron2",
    long_description=read("README.md") if (ROOT / "README.md").is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="VFNet for Detectron2 developers",
    python_requires=">=3.10",
    packages=[*find_packages("projects/VFNet"), "vfnet.configs"],
    package_dir={"vfnet": PACKAGE, "vfnet.configs": "configs"},
    package_data={
        "vfnet.model_zoo": ["published_models.csv"],
        "vfnet.run_page": ["page.html"],
        "vfnet.configs": ["**/*.yaml"],
    },
    # detectron2 is missing because no package index has it: `import vfnet` says how to install it.
    install_requires=[
        "torch>=2.10",
        "torchvision",
        "fvcore",
        "iopath",
        "jinja2",
        "matplotlib",
        "numpy",
        "opencv-python",
        "pillow",
        "pycocotools",
        "safetensors",
        "tabulate",
        "tqdm",
    ],
    extras_require={
        "dev": [
            # Damaged files and configs, drawn by rule.
            "hypothesis>=6",
            # The code blocks of the documents, for tests/docs.
            "markdown-it-py>=3",
            "mypy>=1.11",
            "pytest>=7",
            # The tests on all cores, a file at a time.
            "pytest-xdist",
            # One release series: another formats differently.
            "ruff~=0.17.0",
            # What tests/test_package.py builds the wheel with.
            "setuptools>=70.1",
        ],
        "export": [
            "nncf",
            "onnx",
            # The first whose DeformConv is that of torch's exporter.
            "onnxscript>=0.7.1",
            "onnxruntime>=1.25",
            "openvino>=2026.1",
        ],
        "sahi": ["sahi"],
        # The first that these backbones were tried with.
        "timm": ["timm>=1.0.31"],
        "wandb": ["wandb>=0.18"],
        "web": ["gradio>=6,<7"],
        # What the tests of the extras above need beside them.
        "test-extras": ["playwright", "pytest-timeout", "supervision"],
        "docs": ["furo", "myst-parser", "sphinx>=8"],
    },
)
