"""Recipes of images, and what only some of their variants contain (`fault_injection/`)."""
