"""A start from weights of an earlier training: loaded by name, frozen in part, with a learning rate of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from search.config.messages import suggestion
from search.errors import UsageError
from search.train.estimator import Estimator
from search.train.reduce import Selected
from search.train.weights import Weights, read_weights

_LISTED = 3
_FACTOR = "lr_factor"


@dataclass(frozen=True, kw_only=True, eq=False)
class Started:
    """What became of a network's tensors.

    `loaded` are the names of those that were in the file, `share` is their part of all parameters' values; `left` says
    of each other one, in words, why it stays as it was drawn; `unused` are names in the file alone. `mean` and `std`
    are what the loaded weights had their inputs standardised with, in the shape of the estimator's; None where neither
    the file nor the node says so. `features` are the indices of those of a table that the loaded weights were given,
    where this network is given others; else None.
    """

    loaded: tuple[str, ...]
    share: float
    left: tuple[str, ...]
    unused: tuple[str, ...]
    mean: Tensor | None
    std: Tensor | None
    features: tuple[int, ...] | None = None


def node_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the `pretrained` node of a trial's configuration; None where its weights are drawn."""
    node: Mapping[str, Any] | None = config.get("pretrained")
    return None if node is None or node["weights"] is None else node


def start_from(estimator: Estimator, node: Mapping[str, Any], key: str = "pretrained") -> Started:
    """Load weights into an estimator's network as a `pretrained` node says, and freeze parts of it.

    The node has `weights`, a file that `read_weights` reads; `freeze`, names of modules or parameters that are not
    to be trained, nor their batch norms' running statistics changed; `preprocessing`: whose mean and standard deviation
    inputs are standardised with, and whose features of a table are kept, those of the "data" or of the "file"; `mean`
    and `std`: what the file's were, per channel or feature, where it does not say so itself. Raises
    UsageError where the file cannot be read, none of its parameters agrees by name and shape, or a setting fits
    nothing.
    """
    path = Path(str(node["weights"]))
    weights = read_weights(path, f"{key}.weights")
    own = estimator.network.state_dict()
    loaded = tuple(name for name, value in own.items() if _agree(value, weights.tensors.get(name)))
    share = _share(estimator.network, loaded)
    if not share:
        raise UsageError(
            f"{key}.weights={path}: nothing in it agrees with the network by name and shape; the network has "
            f"{_some(own)}, the file {_some(weights.tensors)}"
        )
    with torch.no_grad():
        for name in loaded:
            own[name].copy_(weights.tensors[name])
    mean, std = _statistics(estimator, node, weights, key)
    if node.get("preprocessing") == "file":
        if mean is None or std is None:
            raise UsageError(
                f"{key}.preprocessing=file: the file has no mean and std for this data; give {key}.mean and {key}.std"
            )
        estimator.mean.copy_(mean)
        estimator.std.copy_(std)
        _select(estimator, weights.features)
    freeze(estimator, node, key)
    return Started(
        loaded=loaded,
        share=share,
        left=tuple(_left(own, weights.tensors, loaded)),
        unused=tuple(name for name in weights.tensors if name not in own),
        mean=mean,
        std=std,
        features=_others(estimator, weights.features),
    )


def in_groups(groups: Sequence[Mapping[str, Any]], model: Estimator, started: Started, factor: float) -> list[Any]:
    """Return an optimiser's parameter groups without frozen parameters, and with the loaded ones in their own.

    An optimiser made of them is to be given to `with_factors`, which sets the loaded ones' learning rate.
    """
    named = dict(model.network.named_parameters())
    loaded = {id(named[name]) for name in started.loaded if name in named}
    split = []
    for group in groups:
        trained = [p for p in group["params"] if p.requires_grad]
        split.append({**group, "params": [p for p in trained if id(p) not in loaded]})
        split.append({**group, "params": [p for p in trained if id(p) in loaded], _FACTOR: factor})
    return [group for group in split if group["params"]]


def with_factors(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimiser, the learning rates of loaded parameters times their factor.

    Raises UsageError where there is another factor than 1 and no rate, `lr`.
    """
    for group in optimizer.param_groups:
        factor = group.pop(_FACTOR, 1.0)
        if factor != 1.0 and "lr" not in group:
            raise UsageError(f"pretrained.lr_factor={factor}: the optimiser has no learning rate, lr, to multiply")
        if factor != 1.0:
            group["lr"] *= factor
    return optimizer


def _agree(own: Tensor, given: Tensor | None) -> bool:
    return given is not None and not is_lazy(own) and own.shape == given.shape


def _share(network: nn.Module, loaded: Sequence[str]) -> float:
    sizes = {name: 0 if is_lazy(value) else value.numel() for name, value in network.named_parameters()}
    return sum(sizes[name] for name in loaded if name in sizes) / max(1, sum(sizes.values()))


def _left(own: Mapping[str, Tensor], given: Mapping[str, Tensor], loaded: Sequence[str]) -> Iterator[str]:
    for name, value in own.items():
        if name in loaded:
            continue
        if name not in given:
            yield f"{name} (not in the file)"
        elif is_lazy(value):
            yield f"{name} (without a shape before the first batch)"
        else:
            yield f"{name} ({_shape(value)}, in the file {_shape(given[name])})"


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


def _some(names: Mapping[str, Any]) -> str:
    listed = list(names)
    return ", ".join(listed[:_LISTED]) + (f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else "")


def _statistics(
    estimator: Estimator, node: Mapping[str, Any], weights: Weights, key: str
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Return the mean and standard deviation that the node names, else those of the file, shaped as the estimator's."""
    wanted = estimator.mean.numel()
    given = [node.get(name) for name in ("mean", "std")]
    if all(value is None for value in given):
        if weights.mean is None or weights.std is None or weights.mean.numel() != wanted:
            return None, None
        mean, std = weights.mean, weights.std
    elif any(value is None for value in given):
        missing, there = ("mean", "std") if given[0] is None else ("std", "mean")
        allowed = f"{wanted} numbers{', above 0' if missing == 'std' else ''}, one a channel or feature"
        raise UsageError(f"{key}.{missing}=null: must be {allowed}, as {key}.{there} is given; or leave out both")
    else:
        mean, std = (torch.tensor(value, dtype=torch.float32) for value in given)
    for name, value in (("mean", mean), ("std", std)):
        if value.numel() != wanted or not value.isfinite().all() or (name == "std" and bool((value <= 0).any())):
            above = ", above 0" if name == "std" else ""
            raise UsageError(
                f"{key}.{name}={value.tolist()}: must be {wanted} numbers{above}, one a channel or feature"
            )
    like = estimator.mean
    return mean.reshape(like.shape).to(like), std.reshape(like.shape).to(like)


def _select(estimator: Estimator, features: Tensor | None) -> None:
    """Keep the file's features of a table, where it has as many as the estimator and this data has them."""
    own = estimator.reduction
    if features is None or not isinstance(own, Selected) or own.features.shape != features.shape:
        return
    if bool(((features >= 0) & (features < estimator.mean.numel())).all()):
        own.features.copy_(features)


def _others(estimator: Estimator, features: Tensor | None) -> tuple[int, ...] | None:
    """Return the file's features where the estimator's network is given others."""
    if features is None or features.ndim != 1 or estimator.mean.ndim != 1:
        return None
    own, theirs = estimator.reduction, tuple(features.tolist())
    given = own.features.tolist() if isinstance(own, Selected) else range(estimator.mean.numel())
    return None if theirs == tuple(given) else theirs


def freeze(estimator: Estimator, node: Mapping[str, Any], key: str = "pretrained") -> None:
    """Stop the parts that a `pretrained` node names from being trained, and the statistics of their batch norms.

    Raises UsageError where there is no such part, and where nothing would be left to train.
    """
    estimator.keep_statistics(_freeze(estimator.network, node.get("freeze") or (), key))


def _freeze(network: nn.Module, prefixes: Sequence[str], key: str) -> tuple[str, ...]:
    """Freeze parts of that name; return the names of the batch norms they are of."""
    norms: list[str] = []
    for given in prefixes:
        prefix = str(given).removeprefix("network.")
        found = [value for name, value in network.named_parameters() if _under(name, prefix)]
        if not found:
            words = suggestion(prefix, _beside(network, prefix))
            raise UsageError(f"{key}.freeze: {given} is no part of the network with parameters; {words}")
        for value in found:
            value.requires_grad_(False)
        among = [n for n, m in network.named_modules() if isinstance(m, _NormBase)]
        norms += [n for n in among if _under(n, prefix) or _under(prefix, n)]  # itself, or a parameter of its own
    if not any(value.requires_grad for value in network.parameters()):
        raise UsageError(f"{key}.freeze={list(prefixes)}: leaves nothing to train")
    return tuple(norms)


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _beside(network: nn.Module, prefix: str) -> list[str]:
    """Return the names of the modules that stand where one of that name would."""
    modules = dict(network.named_modules())
    parent = prefix.rpartition(".")[0]
    at = parent if parent in modules else ""
    return [f"{at}.{name}".removeprefix(".") for name, _ in modules[at].named_children()]
