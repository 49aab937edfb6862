"""How many classes the head of a network has, from its weights alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from server.domain.errors import ConfigurationError
from server.ensemble.building.foreign import without_prefix


def head_size(make: Callable[[int], nn.Module], weights: Mapping[str, Tensor], name: str) -> int:
    """The number of classes for which `make` has to be called so that the network takes these weights.

    Made for two numbers of classes, a network shows which of its weights depend on it, and how. Nothing is computed:
    the networks have shapes only. Raises ConfigurationError for weights of another network, named `name`.
    """
    with torch.device("meta"):
        two, three = make(2).state_dict(), make(3).state_dict()
        state = without_prefix(dict(weights), make(2))
    sizes: dict[int, str] = {}
    for key, small in two.items():
        for axis, (at_two, at_three) in enumerate(zip(small.shape, three[key].shape, strict=True)):
            if at_two == at_three:
                continue
            if key not in state or len(state[key].shape) != len(small.shape):
                raise ConfigurationError(f"the weights are not those of a {name}: they have no `{key}` like its own")
            step = at_three - at_two
            count, rest = divmod(state[key].shape[axis] - at_two + 2 * step, step)
            if rest or count < 1:
                raise ConfigurationError(
                    f"the weights are not those of a {name}: `{key}` has {tuple(state[key].shape)}"
                )
            sizes.setdefault(count, key)
    if len(sizes) != 1:
        what = ", ".join(f"{count} by `{key}`" for count, key in sizes.items()) or "none"
        raise ConfigurationError(f"the weights of this {name} have heads of different sizes: {what}")
    return next(iter(sizes))


def check_count(outputs: int, classes: Sequence[str], name: str) -> None:
    """Raises ConfigurationError unless the list has as many classes as the head has outputs."""
    if len(classes) != outputs:
        raise ConfigurationError(
            f"the head of this {name} has {outputs} output{'s' if outputs > 1 else ''}, and the list has "
            f"{len(classes)} class{'es' if len(classes) != 1 else ''}"
        )
