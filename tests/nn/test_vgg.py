"""VGG against its own definition, layer by layer, and against what is published of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

from sfumato.errors import UsageError
from sfumato.nn.vgg import (
    CAFFE_MEAN,
    IMAGENET_MEAN,
    IMAGENET_STD,
    VGG,
    VGG16,
    VGG19,
    VGGConfig,
    random_vgg,
)

TINY = VGGConfig(widths=(5, 7, 6), convs=(2, 1, 3))


def picture(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize(("config", "count"), [(VGG16, 138_357_544), (VGG19, 143_667_240)])
def test_it_has_the_published_number_of_parameters(config, count):
    with torch.device("meta"):
        net = VGG(replace(config, classes=1000, hidden=4096))
    assert sum(p.numel() for p in net.parameters()) == count
    assert {"classifier.0.weight", "classifier.3.weight", "classifier.6.bias"} < net.state_dict().keys()


def test_layers_stand_where_torchvision_has_them():
    with torch.device("meta"):
        deep, shallow = VGG(VGG19), VGG(VGG16)
    places = {name: deep.features[deep._places[name]] for name in ("conv1_1", "conv4_2", "conv5_4", "pool5")}
    assert [deep._places[name] for name in places] == [0, 21, 34, 36]
    assert [type(layer) for layer in places.values()] == [nn.Conv2d] * 3 + [nn.MaxPool2d]
    relus = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
    assert [shallow._places[name] for name in relus] == [3, 8, 15, 22]
    assert [shallow.channels_of(name) for name in relus] == [64, 128, 256, 512]


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_maps_are_those_of_the_definition(padding, pooling):
    net = random_vgg(replace(TINY, padding=padding, pooling=pooling, ceil=True))
    x, maps = picture(2, 3, 13, 22), {}
    pool = {"max": max_pool2d, "avg": avg_pool2d}[pooling]
    convs = [layer for layer in net.features if isinstance(layer, nn.Conv2d)]
    for stage, count in enumerate(TINY.convs, 1):
        for k in range(1, count + 1):
            conv = convs.pop(0)
            edge = pad(x, (1, 1, 1, 1), mode={"zeros": "constant", "reflect": "reflect"}[padding])
            x = maps[f"conv{stage}_{k}"] = conv2d(edge, conv.weight, conv.bias)
            x = maps[f"relu{stage}_{k}"] = x.clamp(min=0)
        x = maps[f"pool{stage}"] = pool(x, 2, 2, ceil_mode=True)
    found = net(picture(2, 3, 13, 22), net.taps)
    assert list(found) == list(maps)
    for name, wanted in maps.items():
        torch.testing.assert_close(found[name], wanted)
        assert found[name].shape[1] == net.channels_of(name)
    assert maps["pool1"].shape[2:] == (7, 11)


def test_a_map_before_a_relu_keeps_what_is_below_zero():
    net = random_vgg(TINY)
    found = net(picture(1, 3, 9, 11), ["conv1_1", "relu1_1"])
    assert found["conv1_1"].min() < 0
    assert torch.equal(found["conv1_1"].relu(), found["relu1_1"])


def test_nothing_is_computed_beyond_the_deepest_map():
    net, seen = random_vgg(TINY), []
    for layer in net.features:
        layer.register_forward_hook(lambda layer, *_: seen.append(layer))
    net(picture(1, 3, 9, 11), ["relu2_1", "conv1_2"])
    assert seen == list(net.features)[: net._places["relu2_1"] + 1]
    assert net(picture(1, 3, 9, 11), []) == {}


def test_each_convention_has_the_colours_it_names():
    x = picture(2, 3, 5, 4)
    levels = (x + 1) / 2
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    blue_first = (255 * levels)[:, [2, 1, 0]] - torch.tensor(CAFFE_MEAN).view(3, 1, 1)
    wanted = {"unit": x, "imagenet": (levels - mean) / std, "caffe": blue_first, "normalised": levels}
    for convention, adapted in wanted.items():
        net = VGG(replace(TINY, convention=convention))
        torch.testing.assert_close(net.adapted(x), adapted, atol=1e-4, rtol=1e-5)


def test_the_first_layer_of_the_normalised_network_comes_before_all():
    net = random_vgg(replace(TINY, first=True, convention="normalised"))
    assert isinstance(net.first, nn.Conv2d)
    x = picture(1, 3, 9, 10)
    with torch.no_grad():
        net.first.weight.copy_(2 * torch.eye(3).view(3, 3, 1, 1))
        net.first.bias.fill_(-1.0)
    plain = random_vgg(replace(TINY, convention="unit"))
    plain.features.load_state_dict(net.features.state_dict())
    torch.testing.assert_close(net(x, ["relu3_3"])["relu3_3"], plain(x, ["relu3_3"])["relu3_3"])


def test_pictures_of_any_size_are_classified():
    for config in (replace(TINY, classes=4), replace(TINY, classes=4, hidden=8)):
        assert VGG(config).classify(picture(2, 3, 17, 29)).shape == (2, 4)
    with pytest.raises(UsageError, match="has no classifier"):
        VGG(TINY).classify(picture(1, 3, 9, 9))


@pytest.mark.parametrize(("padding", "least"), [("zeros", 4), ("reflect", 8)])
def test_the_smallest_picture_passes_and_a_smaller_one_is_refused(padding, least):
    net = random_vgg(replace(TINY, padding=padding))
    assert net.smallest(["relu1_1", "relu3_1"]) == least
    assert net(picture(1, 3, least, 40), ["relu3_1"])["relu3_1"].shape[2:] == (least // 4, 10)
    with pytest.raises(
        UsageError, match=f"{least - 1} x 40 pixels are too small for relu3_1.* {least} a side"
    ):
        net(picture(1, 3, least - 1, 40), ["relu3_1"])


def test_what_there_is_not_is_refused():
    net = random_vgg(TINY)
    with pytest.raises(UsageError, match="no layer 'relu4_1'"):
        net(picture(1, 3, 9, 9), ["relu4_1"])
    with pytest.raises(UsageError, match="no layer 'relu1'; did you mean"):
        net.channels_of("relu1")
    with pytest.raises(UsageError, match=r"widths \(5, 7\) and convs \(2,\)"):
        VGG(VGGConfig(widths=(5, 7), convs=(2,)))


def test_a_network_that_has_learned_nothing_is_the_same_everywhere():
    before = torch.get_rng_state()
    one, other, third = random_vgg(TINY), random_vgg(TINY), random_vgg(TINY, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    kernel = one.features[2].weight.flatten(1)
    torch.testing.assert_close(kernel @ kernel.T, 2 * torch.eye(5), atol=1e-5, rtol=0)
    assert not torch.equal(one.features[2].weight, third.features[2].weight)
    assert not any(p.requires_grad for p in one.parameters())
