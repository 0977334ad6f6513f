"""For every test: the types and shapes in the package's signatures are checked at each call."""

import os
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

# The hook takes the checker's name, not the checker: this one lets an int pass for a float.
checker = ModuleType("casebook_typechecker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
install_import_hook("casebook", "casebook_typechecker.check")


@pytest.fixture
def check_gradients() -> Callable[..., None]:
    """Call it with a network, images and the number of classes: finite logits, every gradient."""
    import torch  # not above, where it would be loaded before its number of threads is set

    def check(net: torch.nn.Module, images: torch.Tensor, classes: int) -> None:
        logits = net(images)
        assert logits.shape == (len(images), classes)
        assert logits.isfinite().all()
        labels = torch.arange(len(images)) % classes
        torch.nn.functional.cross_entropy(logits, labels).backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name

    return check
