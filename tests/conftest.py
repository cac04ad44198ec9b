"""What all tests share: how Hypothesis draws."""

import os

from hypothesis import settings

# A deadline per example measures the machine, not the code; pytest's timeout bounds each test instead.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
