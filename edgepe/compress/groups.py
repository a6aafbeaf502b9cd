"""Groups of channels that can only leave a network together, found in torch-pruning's dependency graph.

Rules kept here:
1. A group is a set of output channels of convolutions and linear layers, with everything coupled to them: BatchNorm,
   residual sums, the inputs of what follows. The network's own outputs are never in a group.
2. A gate stands after the last affine operation of each branch of a group (BatchNorm, or else the layer itself): a
   gate at zero is then the same as an absent channel, and a gate's value folds into weights exactly.
3. What cannot be gated is left whole and listed with the reason: nothing is skipped in silence.
4. Sizes are counted from the structure alone: :meth:`Structure.parameters` of some widths is the number of parameters
   that physical removal leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn

from edgepe.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "Extent",
    "Group",
    "Layer",
    "Skipped",
    "Structure",
    "count_macs",
    "dependency_graph",
    "find_groups",
    "prune_channels",
]

Affine = (nn.Linear, nn.Conv1d, nn.Conv2d)
Norm = (nn.BatchNorm1d, nn.BatchNorm2d)

# torch-pruning ships no types.
Graph: TypeAlias = Any
RawGroup: TypeAlias = Any
Node: TypeAlias = Any
Dependency: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How many features one side of a layer has, and how many of them each channel of each group carries.

    Attributes:
        total: Features before anything is removed.
        shares: (group, features a channel) pairs; a flattened image of 7 x 7 carries 49 a channel.
    """

    total: int
    shares: tuple[tuple[int, int], ...] = ()

    def left(self, removed: Sequence[int]) -> int:
        """Return how many features are left after so many channels of each group were removed."""
        return self.total - sum(removed[group] * features for group, features in self.shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one layer costs.

    Attributes:
        name: Dotted name in the network.
        inputs: Features it reads for each output (1 in total for depthwise and BatchNorm).
        outputs: Features it writes.
        kernel: Weights for each pair of input and output.
        extra: Parameters for each output beside those (bias).
        positions: Places at which it is evaluated for one example (1 for linear); 0 counts no operations.
    """

    name: str
    inputs: Extent
    outputs: Extent
    kernel: int
    extra: int
    positions: int

    def parameters(self, removed: Sequence[int]) -> int:
        """Return the parameters that are left."""
        return self.outputs.left(removed) * (self.inputs.left(removed) * self.kernel + self.extra)

    def macs(self, removed: Sequence[int]) -> int:
        """Return the multiplications left, for one example."""
        return self.outputs.left(removed) * self.inputs.left(removed) * self.kernel * self.positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Channels that leave together.

    Attributes:
        name: Name of the layer that stands for the group; its output channels are the group's channels.
        channels: How many there are.
        gated: Names of the modules after which the gate stands.
    """

    name: str
    channels: int
    gated: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A group that is left whole, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """All groups of a network, what was skipped, and what its layers cost."""

    groups: tuple[Group, ...]
    skipped: tuple[Skipped, ...]
    layers: tuple[Layer, ...]

    def removed(self, kept: Sequence[int]) -> tuple[int, ...]:
        """Return how many channels of each group are gone, given how many are kept."""
        return tuple(group.channels - count for group, count in zip(self.groups, kept, strict=True))

    def parameters(self, kept: Sequence[int]) -> int:
        """Return the parameters left with so many channels kept in each group."""
        removed = self.removed(kept)
        return sum(layer.parameters(removed) for layer in self.layers)

    def macs(self, kept: Sequence[int]) -> int:
        """Return the multiply-accumulate operations left, for one example (BatchNorm folds and counts none)."""
        removed = self.removed(kept)
        return sum(layer.macs(removed) for layer in self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each group before anything is removed."""
        return tuple(group.channels for group in self.groups)


def dependency_graph(model: nn.Module, example: Tensor) -> Graph:
    """Trace a network and return torch-pruning's dependency graph; the network's mode is left as it was.

    Raises:
        CompressError: The network cannot be run on the example, or cannot be traced.
    """
    training = model.training
    try:
        with torch.enable_grad():
            return tp.DependencyGraph().build_dependency(model, example_inputs=(example,), verbose=False)
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise CompressError(
            "the network cannot be traced",
            expected=f"a network that takes a float tensor {tuple(example.shape)}",
            got=str(error),
            next_step="run the network on one example first; keep branches on data out of forward()",
        ) from error
    finally:
        model.train(training)


def find_groups(model: nn.Module, example: Tensor) -> Structure:
    """Find the groups of a network, and count what its layers cost.

    Args:
        model: A network of Linear, Conv1d, Conv2d and BatchNorm, with activations that leave 0 at 0.
        example: Input, float32, batch first.

    Raises:
        CompressError: The network cannot be traced, or holds nothing that can be removed.
    """
    graph = dependency_graph(model, example)
    names = {module: name for name, module in model.named_modules()}
    groups: list[Group] = []
    skipped: list[Skipped] = []
    shares: dict[tuple[str, str], list[tuple[int, int]]] = {}
    order = {module: place for place, module in enumerate(names)}
    found = sorted(graph.get_all_groups(root_module_types=list(Affine)), key=lambda raw: order[_root(raw)])
    for raw in found:
        name = names[_root(raw)]
        reason = _why_whole(graph, raw)
        if reason:
            skipped.append(Skipped(name=name, reason=reason))
            continue
        channels = len(raw[0].idxs)
        for side, member, features in _members(graph, raw):
            shares.setdefault((names[member], side), []).append((len(groups), features // channels))
        groups.append(Group(name=name, channels=channels, gated=_gated(graph, raw, names)))
    if not groups:
        raise CompressError(
            "nothing in this network can be removed",
            expected="at least one layer between input and output",
            got="; ".join(f"{row.name}: {row.reason}" for row in skipped) or "no Linear, Conv1d or Conv2d",
        )
    return Structure(groups=tuple(groups), skipped=tuple(skipped), layers=tuple(_layers(model, example, names, shares)))


def _root(raw: RawGroup) -> nn.Module:
    module: nn.Module = raw[0].dep.target.module
    return module


def _members(graph: Graph, raw: RawGroup) -> Iterator[tuple[str, nn.Module, int]]:
    """Yield (side, module, number of features) for each layer that a group touches."""
    for dep, indices in raw:
        module = dep.target.module
        if not isinstance(module, (*Affine, *Norm)):
            continue
        outward = graph.is_out_channel_pruning_fn(dep.handler)
        yield ("out" if outward or isinstance(module, Norm) else "in"), module, len(indices)


def _why_whole(graph: Graph, raw: RawGroup) -> str:
    """Return why a group must be left whole, or nothing."""
    channels = len(raw[0].idxs)
    for dep, indices in raw:
        reason = _layer_objects(graph, dep, indices)
        if reason:
            return reason
        if len(indices) % channels:
            return "its channels are spread unevenly over what follows"
    if any(_reaches_output(node) for node in _ends(graph, raw)):
        return "it gives the network's outputs"
    return ""


def _layer_objects(graph: Graph, dep: Dependency, indices: Sequence[int]) -> str:
    """Return why one member keeps its group whole, or nothing."""
    module = dep.target.module
    if isinstance(module, nn.Parameter):
        return "a parameter outside a layer depends on it"
    if isinstance(module, (nn.Conv1d, nn.Conv2d)) and module.groups not in {1, module.out_channels}:
        return "a grouped convolution depends on it"
    if not isinstance(module, (*Affine, *Norm)):
        return f"{type(module).__name__} depends on it" if list(module.parameters(recurse=False)) else ""
    outward = graph.is_out_channel_pruning_fn(dep.handler)
    if outward and sorted(indices) != list(range(graph.get_out_channels(module))):
        return "its channels are joined with others' before they are used"
    return ""


def _ends(graph: Graph, raw: RawGroup) -> list[Node]:
    """Return the nodes of a group after which no other layer of the same group transforms the channel alone."""
    inside = {
        id(dep.target)
        for dep, _ in raw
        if isinstance(dep.target.module, (*Affine, *Norm))
        and (isinstance(dep.target.module, Norm) or graph.is_out_channel_pruning_fn(dep.handler))
    }
    nodes = {id(dep.target): dep.target for dep, _ in raw if id(dep.target) in inside}
    return [node for key, node in nodes.items() if not _only_feeds(node, inside - {key})]


def _next_layers(node: Node) -> Iterator[Node | None]:
    """Yield the nodes with parameters that a node's output reaches first, and None where it reaches the output."""
    stack, seen = list(node.outputs) or [None], set()
    while stack:
        following = stack.pop()
        if following is None:
            yield None
        elif isinstance(following.module, nn.Module) and isinstance(following.module, (*Affine, *Norm)):
            yield following
        elif id(following) not in seen:
            seen.add(id(following))
            stack.extend(list(following.outputs) or [None])


def _only_feeds(node: Node, inside: set[int]) -> bool:
    """Say whether all that a node's output reaches is BatchNorm or a depthwise convolution of the same group."""
    return all(
        following is not None
        and id(following) in inside
        and (isinstance(following.module, Norm) or getattr(following.module, "groups", 1) > 1)
        for following in _next_layers(node)
    )


def _reaches_output(node: Node) -> bool:
    return any(following is None for following in _next_layers(node))


def _gated(graph: Graph, raw: RawGroup, names: dict[nn.Module, str]) -> tuple[str, ...]:
    return tuple(sorted(names[node.module] for node in _ends(graph, raw)))


def _positions(model: nn.Module, example: Tensor) -> dict[nn.Module, int]:
    """Run the network once; return how many places each layer is evaluated at for one example."""
    found: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        found[module] = output[0].numel() // (output.shape[-1] if isinstance(module, nn.Linear) else output.shape[1])

    hooks = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, Affine)]
    training = model.training
    with torch.no_grad():
        model.eval()(example)
    model.train(training)
    for hook in hooks:
        hook.remove()
    return found


def _layers(
    model: nn.Module,
    example: Tensor,
    names: dict[nn.Module, str],
    shares: dict[tuple[str, str], list[tuple[int, int]]],
) -> Iterator[Layer]:
    """Yield the cost of each layer; other parameters count as one layer that never shrinks."""
    positions = _positions(model, example)
    for module, name in names.items():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if not own:
            continue
        outward, inward = tuple(shares.get((name, "out"), ())), tuple(shares.get((name, "in"), ()))
        place = positions.get(module, 0)
        if isinstance(module, Affine):
            weight = module.weight
            depthwise = getattr(module, "groups", 1) > 1
            yield Layer(
                name=name,
                inputs=Extent(total=weight.shape[1], shares=() if depthwise else inward),
                outputs=Extent(total=weight.shape[0], shares=outward),
                kernel=math.prod(weight.shape[2:]),
                extra=int(module.bias is not None),
                positions=place,
            )
        elif isinstance(module, Norm):
            channels = Extent(total=module.num_features, shares=outward)
            yield Layer(name=name, inputs=Extent(total=0), outputs=channels, kernel=0, extra=2, positions=0)
        else:
            yield Layer(name=name, inputs=Extent(total=0), outputs=Extent(total=own), kernel=0, extra=1, positions=0)


def count_macs(model: nn.Module, example: Tensor) -> int:
    """Return the multiply-accumulate operations of linear layers and convolutions, for one example."""
    names = {module: name for name, module in model.named_modules()}
    return sum(layer.macs(()) for layer in _layers(model, example, names, {}))


def prune_channels(model: nn.Module, example: Tensor, removals: Sequence[tuple[str, Sequence[int]]]) -> None:
    """Remove channels of named layers, and all that is coupled to them, in place.

    Args:
        model: The network, float.
        example: Input to trace it with.
        removals: (layer's name, output channels to remove) pairs, one for each group.

    Raises:
        CompressError: The network cannot be traced.
    """
    graph = dependency_graph(model, example)
    modules = dict(model.named_modules())
    for name, channels in removals:
        if channels:
            module = modules[name]
            prune = graph.get_pruner_of_module(module).prune_out_channels
            graph.get_pruning_group(module, prune, list(channels)).prune()
