"""Does a network look at the object or at what surrounds it? Two worlds, three seeds each.

Scenes are silhouettes of elephants and giraffes in front of pieces of two photographs. In the
world "fair" the photograph is drawn at random; in the world "given away" every elephant stands in
front of the one and every giraffe in front of the other. The networks are the same.

Metrics: `accuracy` on new scenes of the run's own world, `swapped` on scenes in which every animal
stands before the other animal's background of the world "given away"; `drop_on` and `drop_off`,
by how much the probability of the right answer falls, on average, when a grey square covers at
least a third of the object or none of it; `pointing`, the share of scenes where the probability is
lowest with the square touching the object, and `pointing_chance`, the share of places at which it
does. The last four are measured on fair scenes, on those that the network gets right.

History: besides the loss, `cka_step` and for each layer `cka1`, `cka2`, ..., how alike that layer
sees 256 scenes at that step and at the end. The weights of both seeds 0 are kept.
"""

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from casebook.data import animals
from casebook.record import Run
from casebook.training import accuracy, classification_loss, fit, seed_everything
from casebook.vision.filters import (
    PatchNet,
    PatchNetConfig,
    cka,
    occlusion_map,
    sample_patches,
    scenes,
)

WORLDS = ("fair", "given away")
RUNS = tuple(f"{world}/{seed}" for world in WORLDS for seed in range(3))
NET = PatchNetConfig(input_channels=1, window=5, channels=(16, 32, 32), first_std=1.0)
ANIMALS = ("elephant", "giraffe")
SCENE, SQUARE, STRIDE = 40, 12, 4
STEPS, BATCH, RATE, DECAY = 300, 64, 3e-3, 0.01
LOOKS = (0, 10, 20, 30, 40, 60, 80, 100, 130, 160, 200, 250, STEPS)


class World:
    """Draws scenes with the animals of one split and one part of the photographs."""

    def __init__(self, split: str, generator: torch.Generator) -> None:
        data = animals()
        pictures, labels = data.tensors(split)
        self.objects = [(pictures[labels == data.names.index(a)] > 0.5).float() for a in ANIMALS]
        images = torch.stack([torch.tensor(i) for i in load_sample_images().images])
        grey = images.double().mean(-1)[:, None] / 255
        border = grey.shape[3] * 3 // 4
        self.photographs = (grey[..., :border] if split == "train" else grey[..., border:]).float()
        self.generator = generator

    def draw(self, world: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Scenes, their labels, and the masks of the objects."""
        labels = torch.randint(2, (count,), generator=self.generator)
        if world == "fair":
            photograph = torch.randint(2, (count,), generator=self.generator)
        else:
            photograph = labels if world == "given away" else 1 - labels
        objects, grounds = torch.empty(count, 1, 28, 28), torch.empty(count, 1, SCENE, SCENE)
        for which in range(2):
            mine, behind = labels == which, photograph == which
            pool = self.objects[which]
            picked = torch.randint(len(pool), (int(mine.sum()),), generator=self.generator)
            objects[mine] = pool[picked]
            grounds[behind] = sample_patches(
                self.photographs[which : which + 1], SCENE, int(behind.sum()), self.generator
            )
        images, masks = scenes(objects, grounds, self.generator)
        return images, labels, masks


def run(name: str, max_steps: int | None = None) -> Run:
    """One run; with `max_steps`, its first steps and no metrics."""
    world, seed = name.split("/")
    generator = seed_everything(int(seed))
    net, train = PatchNet(NET), World("train", generator)
    test = World("test", torch.Generator().manual_seed(1000 + int(seed)))
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=STEPS, pct_start=0.2, cycle_momentum=False
    )
    looked, probe = [], test.draw(world, 256)[0]
    loss: list[float] = []
    for since, until in zip((0, *LOOKS[:-1]), LOOKS, strict=True):
        steps = until - since if max_steps is None else min(until, max_steps) - since
        if steps > 0:
            batches = (train.draw(world, BATCH)[:2] for _ in range(steps))
            loss += fit(net, batches, classification_loss, optimizer, scheduler=scheduler).loss
        if max_steps is None:
            looked.append(features(net, probe))
    if max_steps is not None:
        return Run({"loss": loss})
    history = {"loss": loss, "cka_step": [float(step) for step in LOOKS]}
    for number, final in enumerate(looked[-1]):
        history[f"cka{number + 1}"] = [cka(seen[number], final).item() for seen in looked]
    net.eval()
    metrics = {
        "accuracy": accuracy(net, *test.draw(world, 1000)[:2]),
        "swapped": accuracy(net, *test.draw("swapped", 1000)[:2]),
        **where_it_looks(net, *test.draw("fair", 200)),
    }
    keep = name.endswith("/0")
    weights = {k: v.half() for k, v in net.state_dict().items() if keep and v.is_floating_point()}
    return Run(history, metrics, weights)


@torch.no_grad()
def features(net: PatchNet, images: Tensor) -> list[Tensor]:
    """What each layer says about the images, as vectors, and at the end the logits."""
    net.eval()
    seen = []
    for layer in net.layers:
        images = layer(images)
        seen.append(images.flatten(1))
    return [*seen, net.classify(images.mean((2, 3)))]


def where_it_looks(
    net: PatchNet, images: Tensor, labels: Tensor, masks: Tensor
) -> dict[str, float]:
    """`drop_on`, `drop_off`, `pointing` and `pointing_chance` on the scenes it gets right."""
    on, off, hits, chance = [], [], [], []
    with torch.no_grad():
        right = net(images).argmax(1) == labels
    for image, label, mask in zip(images[right], labels[right], masks[right], strict=True):
        drops = occlusion_map(
            lambda batch, label=label: net(batch).softmax(1)[:, label],
            image,
            size=SQUARE,
            stride=STRIDE,
        )
        covered = mask.float().unfold(0, SQUARE, STRIDE).unfold(1, SQUARE, STRIDE).sum((2, 3))
        on += drops[covered >= mask.sum() / 3].tolist()
        off += drops[covered == 0].tolist()
        hits.append((covered.flatten()[drops.argmax()] > 0).item())
        chance.append((covered > 0).float().mean().item())
    return {
        "drop_on": sum(on) / len(on),
        "drop_off": sum(off) / len(off),
        "pointing": sum(hits) / len(hits),
        "pointing_chance": sum(chance) / len(chance),
    }
