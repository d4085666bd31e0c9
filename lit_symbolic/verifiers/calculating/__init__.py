"""What stands under the Game of 24: exact arithmetic as it is written, and the solver."""
