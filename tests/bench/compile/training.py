"""Train the nets once, seeded, and keep them: ``.cache/bench/nets/NAME-SEED.onnx`` with the arrays beside it.

Rules kept here:
1. One core, a few minutes at most per net; a net that is kept is not trained again (``make clean`` forgets it).
2. What is kept is our capture's float graph as a file, stripped: every tool starts from the same bytes.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from edgepe.capture.captured import Port
from edgepe.capture.torch_module import capture_module
from edgepe.lower.onnx_file import onnx_bytes
from edgepe.metrics import Metric, metric
from edgepe.verify.run import run_artifact
from tests.bench.compile import data, networks, pitch
from tests.bench.compile.data import Part, Split
from tests.bench.compile.pretrained import keyword_net

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    import onnx_ir as ir
    from numpy.typing import NDArray

    Outputs = Mapping[str, NDArray[Any]]

__all__ = ["NETS", "RECIPES", "Net", "Recipe", "kept", "prepare"]

FOLDER = Path(".cache/bench/nets")
OPSET = 20  # the newest that every target's runtime knows
IR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a net is made.

    Attributes:
        make: The untrained module.
        load: The data.
        epochs: Passes over the training part; 0 where the module comes with its weights, or where only time counts.
        rate: Peak learning rate of a one-cycle schedule.
        noise: Standard deviation of the noise that training adds to the inputs.
        shift: Largest shift of an input along its last axes, in steps; training draws it anew.
    """

    make: Callable[[], nn.Module]
    load: Callable[[], Split]
    epochs: int
    rate: float = 3e-3
    noise: float = 0.0
    shift: int = 0


RECIPES: dict[str, Recipe] = {
    "lenet": Recipe(make=networks.LeNet, load=data.digits, epochs=3),
    "mlp": Recipe(make=networks.Mlp, load=data.digits, epochs=4),
    "resnet8": Recipe(make=networks.ResNet8, load=data.cifar, epochs=8, rate=6e-3, shift=2),
    "mbv2s": Recipe(make=networks.MobileNetV2, load=data.cifar, epochs=8, rate=6e-3, shift=2),
    "watch1d": Recipe(make=networks.Watch1d, load=data.watch, epochs=12, noise=0.1),
    "dscnn": Recipe(make=keyword_net, load=data.keywords, epochs=0),
    "resnet18": Recipe(make=networks.ResNet18, load=data.photographs, epochs=0),
    "mbv2": Recipe(make=networks.full_mobilenet, load=data.photographs, epochs=0),
    "gru": Recipe(make=networks.Recurrent, load=data.spoken, epochs=20, noise=0.2),
    "attention": Recipe(make=networks.Attention, load=data.spoken, epochs=20, rate=1e-3, noise=0.2),
}


NETS = (*RECIPES, "pitch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A trained net as files: the float graph, and one ``.npz`` (``x``, ``y``) per part."""

    name: str
    seed: int
    folder: Path = FOLDER

    @property
    def stem(self) -> str:
        """Name and seed."""
        return f"{self.name}-{self.seed}"

    @property
    def metric(self) -> Metric:
        """How it is scored."""
        return metric(pitch.SCORE if self.name == "pitch" else "accuracy")

    def judged(self, outputs: Outputs) -> Outputs:
        """Return the outputs that its metric reads: resampling the others costs minutes."""
        return {pitch.NOTES: outputs[pitch.NOTES]} if self.name == "pitch" else outputs

    @property
    def model(self) -> Path:
        """The float graph."""
        return self.folder / f"{self.stem}.onnx"

    def part(self, name: str) -> Path:
        """The samples of ``calibration``, ``evaluation`` or ``test``."""
        return self.folder / f"{self.stem}.{name}.npz"


def kept(name: str, seed: int) -> Net:
    """Return a net, making it where it is not kept yet."""
    net = Net(name=name, seed=seed)
    if not net.model.exists():
        net.folder.mkdir(parents=True, exist_ok=True)
        if name == "pitch":
            prepare_pitch(net)
        else:
            prepare(net, RECIPES[name])
    return net


def prepare(net: Net, recipe: Recipe) -> None:
    """Train one net and keep it."""
    began = time.perf_counter()
    torch.set_num_threads(1)
    split = recipe.load()
    module = trained(recipe, split.train, seed=net.seed)
    score = accuracy(module, split.test)
    port = Port(name="x", dtype="float32", shape=(-1, *split.train.x.shape[1:]))
    keep(net, capture_module(module, name=net.name, inputs=(port,)).model, split)
    sys.stderr.write(f"{net.stem}: accuracy {score:.4f}, trained in {time.perf_counter() - began:.0f} s\n")


def prepare_pitch(net: Net) -> None:
    """Keep the pitch net, its labels by its own float decisions."""
    model = pitch.pitch_net().model
    path = net.model.with_suffix(".float.onnx")
    path.write_bytes(onnx_bytes(model, opset_max=OPSET, ir_max=IR))
    split = pitch.sounds()
    parts = [labelled(part, path) for part in (split.train, split.evaluation, split.test)]
    keep(net, model, Split(train=parts[0], evaluation=parts[1], test=parts[2]))
    path.unlink()


def labelled(part: Part, path: Path) -> Part:
    """Return the samples with the float net's notes as labels."""
    notes = run_artifact(path, "onnxruntime", {"x": part.x}).outputs[pitch.NOTES]
    return Part(x=part.x, y=(notes >= pitch.THRESHOLD).astype(np.int64))


def keep(net: Net, model: ir.Model, split: Split) -> None:
    """Write the files; the model comes last, so that what is there is whole."""
    np.savez(net.part("calibration"), x=split.calibration)
    np.savez(net.part("evaluation"), x=split.evaluation.x, y=split.evaluation.y)
    np.savez(net.part("test"), x=split.test.x, y=split.test.y)
    partial = net.model.with_suffix(".part")
    partial.write_bytes(onnx_bytes(model, opset_max=OPSET, ir_max=IR))
    partial.replace(net.model)


def trained(recipe: Recipe, part: Part, *, seed: int) -> nn.Module:
    """Return the module after training."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    module = recipe.make().train()
    if not recipe.epochs:
        return module.eval()
    steps = -(-len(part.x) // 64) * recipe.epochs
    optimizer = torch.optim.AdamW(module.parameters(), recipe.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=steps)
    for _ in range(recipe.epochs):
        order = draw.permutation(len(part.x))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            x = torch.from_numpy(varied(part.x[rows], recipe, draw))
            loss = nn.functional.cross_entropy(module(x), torch.from_numpy(part.y[rows]))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return module.eval()


def varied(x: NDArray[np.float32], recipe: Recipe, draw: np.random.Generator) -> NDArray[np.float32]:
    """Return the inputs shifted and with noise, as the recipe says."""
    if recipe.shift:
        moves = draw.integers(-recipe.shift, recipe.shift + 1, 2)
        x = np.roll(x, moves, (-2, -1))
    if recipe.noise:
        x = x + recipe.noise * draw.standard_normal(x.shape, np.float32)
    return np.ascontiguousarray(x, np.float32)


@torch.no_grad()
def accuracy(module: nn.Module, part: Part) -> float:
    """Return the share of right classes."""
    logits = torch.cat([module(torch.from_numpy(part.x[start : start + 256])) for start in range(0, len(part.x), 256)])
    return float((logits.argmax(1).numpy() == part.y).mean())
