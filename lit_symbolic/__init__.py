"""Fine-tune language models on feedback from symbolic tools, token by token.

This package imports nothing heavy by itself: verifier workers import :mod:`lit_symbolic.verifiers` and
:mod:`lit_symbolic.tasks` alone and never see torch.
"""

import logging

__version__ = "0.1.0"

# On import, bitsandbytes asks for an optional package at every start; its own kernels serve.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
