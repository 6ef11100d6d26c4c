"""What every decoder is built of."""

from __future__ import annotations

from torch import nn


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The modules of the longest list of equal blocks; none where the model has no such list. Lists inside of other
    lists' blocks (a layer's experts) do not count, however long they are."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len({type(block) for block in module}) == 1 and not inside:
            found[name] = module
    return list(max(found.values(), key=len, default=[]))
