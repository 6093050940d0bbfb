"""Data flows one way: the imports of every module are read and held against the layers of the design."""

import ast
from pathlib import Path

import mlxnb

ROOT = Path(mlxnb.__file__).parent
LAYERS = [
    {
        "errors",
        "decision",
        "request",
        "result",
        "schema",
        "template",
        "template_sandbox",
        "config",
        "conversation",
        "conversion",
        "profile_options",
        "tools",
        "toolbox",
        "config_values",
        "env_file",
        "frames",
        "hardware",
        "comparison",
        "panel_names",
        "quiet",
        "records",
    },
    {"models", "cache", "kernels", "pocket"},
    {"backends"},
    {"runtime", "doctor"},
    {"profiling", "scale", "lm", "render"},
    {"magics", "widgets", "cli", "demo", "notebook_run"},
]
SISTERS_MAY_NOT = {"magics", "widgets"}  # fronts never import each other
HEAVY = {"mlx", "mlx_lm", "torch", "transformers", "matplotlib", "ipywidgets", "huggingface_hub", "tokenizers"}
HEAVY |= {"openai", "ollama", "httpx"}


def layer_of(part: str) -> int:
    found = next((i for i, layer in enumerate(LAYERS) if part in layer), None)
    assert found is not None, f"mlxnb.{part} has no layer; give it one here and in the design"
    return found


def modules() -> list[tuple[str, Path]]:
    """(top-level part, file) of every module but the package's own __init__ and the pocket model's builder."""
    files = [p for p in ROOT.rglob("*.py") if "build" not in p.relative_to(ROOT).parts and "notebooks" not in p.parts]
    return [(p.relative_to(ROOT).parts[0].removesuffix(".py"), p) for p in sorted(files) if p != ROOT / "__init__.py"]


def imported_parts(path: Path) -> set[str]:
    """The top-level parts of mlxnb that a file imports, anywhere in it."""
    parts = set()
    package = ["mlxnb", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            full = [*base, *(node.module or "").split(".")] if node.module else base
            if full == ["mlxnb"]:
                parts |= {alias.name for alias in node.names}
            elif len(full) > 1:
                parts.add(full[1])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlxnb."):
            parts.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            parts |= {a.name.split(".")[1] for a in node.names if a.name.startswith("mlxnb.")}
    return {part for part in parts if (ROOT / part).exists() or (ROOT / f"{part}.py").exists()}


def test_no_module_imports_from_a_higher_layer():
    wrong = []
    for part, path in modules():
        for other in imported_parts(path) - {part}:
            up = layer_of(other) > layer_of(part)
            sister = layer_of(other) == layer_of(part) and {part, other} <= SISTERS_MAY_NOT
            if up or sister:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert wrong == []


# The folders of `profiling`, each of which imports from those before it only.
OF_A_PROFILE = ["report", "machine", "model", "judge", "runs", "show"]


def test_the_folders_of_a_profile_import_one_way():
    wrong, root = [], ROOT / "profiling"
    for place, folder in enumerate(OF_A_PROFILE):
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:  # at the top: what runs when it is imported
                if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module:
                    other = node.module.split(".")[0]
                    if other in OF_A_PROFILE[place + 1 :]:
                        wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert wrong == []


# These define classes of torch's, which cannot be done without it; they are themselves imported inside functions only.
OF_TORCH = {"torch_blocked", "torch_int4", "torch_int8", "torch_joined", "torch_norm"}


def _is_panel(path: Path) -> bool:
    """Panels are made of ipywidgets; `widgets` itself imports them when one is opened."""
    return "widgets" in path.parts and path.parent.name != "widgets"


def test_heavy_libraries_are_imported_inside_functions():
    wrong = []
    for _, path in modules():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.ImportFrom) and node.level:
                parts = {node.module or "", *(alias.name for alias in node.names)}
                wrong += [f"{path.relative_to(ROOT)} imports {part}" for part in parts & OF_TORCH]
            elif path.stem in OF_TORCH or _is_panel(path):
                continue
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [f"{path.relative_to(ROOT)} imports {n}" for n in names if n.split(".")[0] in HEAVY]
    assert wrong == []


def test_a_backend_knows_no_notebook():
    for part, path in modules():
        if part in ("backends", "runtime", "models"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            assert not {name.split(".")[0] for name in names} & {"IPython", "ipykernel", "ipywidgets"}, path


def test_the_test_would_notice():
    assert "runtime" in imported_parts(ROOT / "magics" / "tables.py") | imported_parts(ROOT / "magics" / "follow.py")
    assert layer_of("magics") > layer_of("runtime") > layer_of("backends") > layer_of("models") > layer_of("errors")
