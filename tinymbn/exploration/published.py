"""ImageNet top-1 accuracies that were published for MobileNets as float networks, in per cent.

Sources: tables 6 and 7 of Howard et al. 2017 for MobileNetV1 at alpha 1 or 224x224; table 4 of Sandler et al. 2018 for
MobileNetV2 at 224x224, alpha 1 and 1.4; all others the model pages of TensorFlow's slim library, research/slim/nets of
github.com/tensorflow/models.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_RESOLUTIONS = (224, 192, 160, 128, 96)
# By alpha, the accuracies at these resolutions.
_V1 = {
    1.0: (70.6, 69.1, 67.2, 64.4),
    0.75: (68.4, 67.2, 65.3, 62.1),
    0.5: (63.7, 61.7, 59.1, 56.3),
    0.25: (50.6, 47.7, 45.5, 41.5),
}
_V2 = {
    1.4: (74.7,),
    1.3: (74.4,),
    1.0: (72.0, 70.7, 68.8, 65.3, 60.3),
    0.75: (69.8, 68.7, 66.4, 63.2, 58.8),
    0.5: (65.4, 63.9, 61.0, 57.7, 51.2),
    0.35: (60.3, 58.2, 55.7, 50.8, 45.5),
}

TOP_1: Mapping[tuple[str, float, int], float] = MappingProxyType(
    {
        (name, alpha, resolution): accuracy
        for name, table in (("mobilenet_v1", _V1), ("mobilenet_v2", _V2))
        for alpha, accuracies in table.items()
        for resolution, accuracy in zip(_RESOLUTIONS, accuracies, strict=False)
    }
)
"""By architecture, alpha and resolution."""
