"""llama.cpp: models from GGUF files on the user's own machine."""

from lsp_assist.engine.gguf import ModelFile, read_model_file
from lsp_assist.engine.local import LocalModel

__all__ = ["LocalModel", "ModelFile", "read_model_file"]
