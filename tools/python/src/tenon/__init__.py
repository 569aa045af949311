"""tenon compiles transformer models; this package compiles, loads and runs them from Python.

    import tenon
    model = tenon.load("all-MiniLM-L6-v2")            # a folder, GGUF or ONNX file, or a library of tenon compile
    vectors = model.embed(["A cat sits.", "Ein Hund schläft."])

Classes named TenonModelFor... take the place of transformers' models in pipelines. README.md has more."""
from ._binary import find as find_binary
from .actions import (Answer, Artefact, Check, CommandResult, Difference, Quantization, RecipeJob, RecipeRun, TensorChange,
                      Verification, Written, chat, chat_prompt, check, command, compile, export, imatrix, inspect,
                      optimize, perplexity, quantize, run_recipe, verify)
from .causal import TenonModelForCausalLM
from .embedder import TenonEmbedder
from .errors import Message, TenonError, TenonNotFoundError
from .generation import Generation, Sampling, Token
from .model import Argument, Entry, Model, load
from .pretrained import (TenonModel, TenonModelForFeatureExtraction, TenonModelForMaskedLM, TenonModelForQuestionAnswering,
                         TenonModelForSequenceClassification, TenonModelForTokenClassification)
from .session import Session
from .tokenizer import Tokenizer

__version__ = "0.1.0"
__all__ = ["Answer", "Argument", "Artefact", "Check", "CommandResult", "Difference", "Entry", "Generation", "Message",
           "Model", "Quantization", "RecipeJob", "RecipeRun", "Sampling", "Session", "TenonEmbedder", "TenonError",
           "TenonModel", "TenonModelForCausalLM", "TenonModelForFeatureExtraction", "TenonModelForMaskedLM",
           "TenonModelForQuestionAnswering", "TenonModelForSequenceClassification", "TenonModelForTokenClassification",
           "TenonNotFoundError", "TensorChange", "Token", "Tokenizer", "Verification", "Written", "chat", "chat_prompt",
           "check", "command", "compile", "export", "find_binary", "imatrix", "inspect", "load", "optimize", "perplexity",
           "quantize", "run_recipe", "verify"]
