"""The model that is trained, its critic and its reference."""

from lit_symbolic.policies.critic import Critic, CriticKind
from lit_symbolic.policies.loaders import HuggingFacePolicy, Lora, PolicyLoader, TinyLlama
from lit_symbolic.policies.reference import Reference, ReferenceKind

__all__ = ["Critic", "CriticKind", "HuggingFacePolicy", "Lora", "PolicyLoader", "Reference", "ReferenceKind", "TinyLlama"]
