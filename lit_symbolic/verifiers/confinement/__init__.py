"""The parts of the sandbox, each one idea; :mod:`lit_symbolic.verifiers.sandbox` is what others use."""
