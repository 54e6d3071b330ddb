"""The ablation of DMDD: simpler heads that are trained beside the model's own."""

import ablation
import torch


def test_every_map_is_another_and_the_own_head_is_that_of_the_model() -> None:
    torch.manual_seed(0)
    model = ablation.DmddWithHeads(backbone="resnet18", pre_trained=False, visualizer=False)
    own = model.model.head["head"]
    images = torch.randn(2, 3, 64, 64)
    model.model.eval()
    with torch.no_grad():
        for parameter in model.model.head.parameters():
            parameter.copy_(torch.randn_like(parameter))
        maps = {}
        for name in model.maps():
            model.report(name)
            maps[name] = model.model(images).anomaly_map
        model.model.head = own
        model.model.anomaly_map_mode = "head"
        expected = model.model(images).anomaly_map
    torch.testing.assert_close(maps["head"], expected)
    names = list(maps)
    assert not any(torch.equal(maps[a], maps[b]) for i, a in enumerate(names) for b in names[:i])
