"""The architecture: a module imports only from lower layers."""

import ast
import re
from pathlib import Path

import pytest

CONTRIBUTING = Path(__file__).parents[1] / "docs" / "contributing.md"
PACKAGE = Path(__file__).parents[1] / "src" / "tinylab"

# Layer by layer, lowest first; a folder stands for all its modules.
LAYERS = [
    ["__init__", "errors"],
    ["system"],
    ["config", "ui"],
    ["data"],
    ["models"],
    ["training"],
    ["store"],
    ["experiment"],
    ["comparison"],
    ["reporting"],
    ["sweeps", "inference"],
    ["predict", "evaluate", "export"],
    ["commands"],
    ["api"],
    ["cli"],
    ["__main__"],
]
# Library -> the only packages that may know it.
ONLY = {
    "hydra": {"config", "sweeps", "commands"},
    "matplotlib": {"ui", "experiment"},
    "tensorboard": {"ui"},
    "cv2": {"data"},
    "torchvision": {"system"},
    "sklearn": {"data", "predict"},
    "scipy": {"comparison"},
    "pandas": {"api"},
    "jinja2": {"reporting"},
    "markupsafe": {"reporting"},
    "optuna": {"sweeps"},
    "rich": {"ui"},
    "mlflow": {"ui"},
    "wandb": {"ui"},
    "onnxruntime": {"export"},
    "filelock": {"store"},
}
WITHOUT_TORCH = [
    "cli", "comparison", "config", "data", "errors", "reporting", "store", "sweeps", "system", "ui",
]  # fmt: skip
MAY_IMPORT_TORCH = {
    "data/batches.py", "data/augment.py", "data/stream.py", "system/runtime.py",
}  # fmt: skip


def test_the_docs_tell_the_same_layers() -> None:
    rows = re.findall(r"^\| \d+ \| (`[^|]*?) \|", CONTRIBUTING.read_text(), re.MULTILINE)
    documented = [re.findall(r"`(\w+)`", row) for row in rows]
    assert documented == [[name for name in layer if name[0] != "_"] for layer in LAYERS[:-1]]


def test_the_house_has_few_rooms() -> None:
    rooms = {part_of(path) for path in FILES}
    assert len(rooms) <= 22, sorted(rooms)


def part_of(path: Path) -> str:
    """The module or folder of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    result: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            result |= {f"{node.module}.{alias.name}" for alias in node.names}
    return result


FILES = sorted(PACKAGE.rglob("*.py"))
RANK = {name: number for number, layer in enumerate(LAYERS) for name in layer}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_layers(path: Path) -> None:
    here = part_of(path)
    assert here in RANK, f"{here} has no layer yet: give it one"
    for name in imports(path):
        if name.startswith("tinylab."):
            there = name.split(".")[1]
            if there in RANK and there != here:
                assert RANK[there] < RANK[here], f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_library_is_known_only_to_its_own_module(path: Path) -> None:
    for name in imports(path):
        library = name.split(".")[0]
        if library in ONLY:
            assert part_of(path) in ONLY[library], f"{path.name} imports {library}"


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_what_must_start_quickly_does_not_import_torch(part: str) -> None:
    for path in FILES:
        if part_of(path) == part and str(path.relative_to(PACKAGE)) not in MAY_IMPORT_TORCH:
            top_level = ast.parse(path.read_text())
            names = {
                alias.name if isinstance(node, ast.Import) else node.module or ""
                for node in top_level.body
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names
            }
            assert not any(name.split(".")[0] == "torch" for name in names), path


def test_there_is_no_bag_of_utilities() -> None:
    names = {path.stem for path in FILES}
    assert not names & {"utils", "util", "helpers", "common", "misc"}
