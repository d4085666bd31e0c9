"""What stands under the verifier of Python programs: the interpreters, what runs inside, and the judgement."""
