"""What an operator does with a whole cell, on real processes."""
