"""Settings shared by all tests."""

import os

from hypothesis import settings

# CI machines are shared and slow at times: a deadline would test the machine. Fixed examples keep a red run red.
settings.register_profile("mmac", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("mmac")

# What runs the tests may say how wide its own terminal is: tables here are as wide as in a pipe.
os.environ.pop("COLUMNS", None)
