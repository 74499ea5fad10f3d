"""Depends on something that is not installed."""

import surely_not_installed

print(surely_not_installed)
