"""For every test: the types and shapes in the package's signatures are checked at each call."""

import os
import sys
from types import ModuleType

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

# The hook takes the checker's name, not the checker: this one lets an int pass for a float.
checker = ModuleType("casebook_typechecker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
install_import_hook("casebook", "casebook_typechecker.check")
