"""All attacks on the sandbox."""

from attacks_on_resources import DISK, MEMORY, PROCESSES
from attacks_on_the_host import FILES, NETWORK_ATTACKS, OTHERS
from sandbox_attack import BITES, CPP_HEADER, Attack, cpp_program

__all__ = ["ATTACKS", "BITES", "CPP_HEADER", "Attack", "cpp_program"]

ATTACKS = (*PROCESSES, *MEMORY, *DISK, *FILES, *NETWORK_ATTACKS, *OTHERS)
