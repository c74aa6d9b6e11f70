"""The moving average against its definition, and the exchange of weights for previews."""

from __future__ import annotations

import torch
from torch import nn

from sfumato.core.ema import MovingAverage


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Linear(4, 1).requires_grad_(False))


def drift(module: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape, generator=generator))
        else:
            tensor.add_(1)


def test_the_average_follows_its_definition_with_the_ramp():
    module = net()
    average = MovingAverage(module, 0.6)
    expected = {n: t.clone() for n, t in module.state_dict().items()}
    for n in range(12):
        drift(module, n)
        average.update()
        decay = min(0.6, (1 + n) / (10 + n))
        for name, tensor in module.state_dict().items():
            real = tensor.is_floating_point()
            expected[name] = decay * expected[name] + (1 - decay) * tensor if real else tensor.clone()
    found = average.state_dict()
    assert found.keys() == {n for n in expected if not n.startswith("2.")}, "frozen weights are not averaged"
    assert found["1.num_batches_tracked"] == 12
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name])


def test_weights_are_exchanged_and_given_back_to_the_bit():
    module = net()
    average = MovingAverage(module, 0.9)
    drift(module, 1)
    average.update()
    own = {n: t.clone() for n, t in module.state_dict().items()}
    mean = {n: t.clone() for n, t in average.state_dict().items()}
    with average.swapped():
        assert all(torch.equal(module.state_dict()[n], t) for n, t in mean.items())
        assert torch.equal(module.state_dict()["2.weight"], own["2.weight"])
    assert all(torch.equal(module.state_dict()[n], t) for n, t in own.items())
    assert all(torch.equal(average.state_dict()[n], t) for n, t in mean.items())


def test_state_goes_out_and_in_with_the_place_on_the_ramp():
    one, two = net(), net()
    first, second = MovingAverage(one, 0.99), MovingAverage(two, 0.99)
    for step in range(3):
        drift(one, step)
        first.update()
    two.load_state_dict(one.state_dict())
    second.load_state_dict({n: t.clone() for n, t in first.state_dict().items()}, first.updates)
    for module, average in ((one, first), (two, second)):
        drift(module, 9)
        average.update()
    assert all(torch.equal(t, second.state_dict()[n]) for n, t in first.state_dict().items())
