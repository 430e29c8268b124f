"""The compiled core under one name, for any instruction set; `_core.pyi` says what it holds."""

import sys

from attsvm._dispatch import load_core

sys.modules[__name__] = load_core()
