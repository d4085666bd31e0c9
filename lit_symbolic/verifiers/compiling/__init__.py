"""What stands under the C++ verifier: its compiler, what that says, and the tests of a program."""
