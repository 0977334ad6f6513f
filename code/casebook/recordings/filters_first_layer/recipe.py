"""What first layers learn from two photographs, and what from noise; three seeds each.

"photographs/SEED": a small network learns to tell patches of two photographs from other patches of
them whose phases are scrambled. It trains on the left three quarters of both and is tested on the
right quarter.

"shuffled/SEED": the control. The same network sees patches drawn alike, with labels permuted within
every batch, so that there is nothing to learn but the noise of the gradients.

Metrics: `accuracy` on 2,000 patches of the part not trained on; `turned`, the mean cosine between
a first-layer filter and its initial values; `one_colour`, the mean share of a filter that is one
colour times one pattern; `gabor`, the mean share of that pattern that a Gabor function explains,
and `gabor_before` that of the initial filters; `edges` and `edges_before`, the share of filters of
whose pattern a Gabor function explains half or more and brightness a tenth or less. The weights of
both seeds 0 are kept.
"""

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from casebook.record import Run
from casebook.training import accuracy, classification_loss, fit, seed_everything
from casebook.vision.filters import (
    PatchNet,
    brightness_share,
    fit_gabor,
    leading_colour,
    real_or_scrambled,
)

KINDS = ("photographs", "shuffled")
RUNS = tuple(f"{kind}/{seed}" for kind in KINDS for seed in range(3))
STEPS, HALF_BATCH, SIZE, RATE, DECAY = 400, 32, 32, 3e-3, 0.05


def photographs() -> Tensor:
    """scikit-learn's two photographs, a temple and a flower: (2, 3, 427, 640), from 0 to 1."""
    images = [torch.tensor(image) for image in load_sample_images().images]
    return torch.stack(images).movedim(-1, 1) / 255


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no metrics."""
    kind, seed = name.split("/")
    generator = seed_everything(int(seed))
    both = photographs()
    border = both.shape[3] * 3 // 4
    net = PatchNet()
    before = net.first.weight.detach().clone()
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=STEPS, pct_start=0.2, cycle_momentum=False
    )

    def batches():
        for _ in range(STEPS):
            patches, labels = real_or_scrambled(both[..., :border], HALF_BATCH, SIZE, generator)
            if kind == "shuffled":
                labels = labels[torch.randperm(len(labels), generator=generator)]
            yield patches, labels

    history = fit(
        net, batches(), classification_loss, optimizer, max_steps=max_steps, scheduler=scheduler
    )
    if max_steps is not None:
        return Run({"loss": history.loss})
    patches, labels = real_or_scrambled(both[..., border:], 1000, SIZE, generator)
    filters = net.first.weight.detach()
    _, patterns, share = leading_colour(filters)
    gabor, bright, edges = judge(patterns)
    gabor_before, _, edges_before = judge(leading_colour(before)[1])
    keep = {k: v.half() for k, v in net.state_dict().items() if v.is_floating_point()}
    return Run(
        {"loss": history.loss, "gabor": gabor.tolist(), "brightness": bright.tolist()},
        {
            "accuracy": accuracy(net, patches, labels),
            "turned": torch.cosine_similarity(filters.flatten(1), before.flatten(1)).mean().item(),
            "one_colour": share.mean().item(),
            "gabor": gabor.mean().item(),
            "gabor_before": gabor_before.mean().item(),
            "edges": edges,
            "edges_before": edges_before,
        },
        keep if name.endswith("/0") else {},
    )


def judge(patterns: Tensor) -> tuple[Tensor, Tensor, float]:
    """What Gabor functions and brightness explain of each pattern, and the share of edges."""
    gabor, bright = fit_gabor(patterns)[1], brightness_share(patterns)
    return gabor, bright, ((gabor >= 0.5) & (bright <= 0.1)).double().mean().item()
