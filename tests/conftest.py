"""Settings shared by all tests."""

from hypothesis import settings

# CI machines are shared and slow at times: a deadline would test the machine. Fixed examples keep a red run red.
settings.register_profile("mmac", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("mmac")
