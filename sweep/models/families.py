"""The network families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sweep.core.errors import MOST_CHANNELS, ConfigError, require_integer, require_number

# Small data sets have few steps an epoch, so that with Keras's 0.99 the moving statistics would lag behind the weights.
_MOMENTUM = 0.9
Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class _Family:
    """The base of the families: the width multiplier and the checks.

    Args:
        width: multiplies every layer's channels (rounded, at least 1), in (0, 16].
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        require_number("width", self.width, 0, 16, open_low=True)

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.width))

    @property
    def smallest_side(self) -> int:
        """The smallest image height or width, in pixels, that the network can take."""
        return 1

    def check(self, input_shape: Shape) -> None:
        """Refuses an image that the strides and poolings would shrink to nothing.

        Raises:
            ConfigError: when a side of `input_shape` (height, width, channels) is too small.
        """
        if min(input_shape[:2]) < self.smallest_side:
            least = self.smallest_side
            raise ConfigError("", f"images of at least {least}x{least} pixels", "x".join(map(str, input_shape[:2])))

    def kinds(self) -> frozenset[str]:
        """The prunable kinds of layer that the network has."""
        return frozenset({"conv", "dense"})


def _channel_list(where: str, value: object) -> None:
    if not isinstance(value, (tuple, list)):
        raise ConfigError(where, "a list of integers", value)
    for position, channels in enumerate(value):
        require_integer(f"{where}[{position}]", channels, 1, MOST_CHANNELS)


def _conv_bn(x: Any, channels: int, name: str, *, kernel: int = 3, stride: int = 1) -> Any:
    import tf_keras as keras

    conv = keras.layers.Conv2D(channels, kernel, stride, "same", use_bias=False, kernel_initializer="he_normal", name=name)
    return keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_bn")(conv(x))


def _conv_bn_relu(x: Any, channels: int, name: str, *, kernel: int = 3, stride: int = 1) -> Any:
    import tf_keras as keras

    return keras.layers.ReLU(name=f"{name}_relu")(_conv_bn(x, channels, name, kernel=kernel, stride=stride))


def _model(image: Any, features: Any, classes: int, name: str) -> Any:
    import tf_keras as keras

    return keras.Model(image, keras.layers.Dense(classes, name="logits")(features), name=name)


@dataclass(frozen=True, kw_only=True)
class LeNet5(_Family):
    """LeNet-5 (LeCun et al. 1998) with ReLU, batch normalisation, max-pooling and 'same' convolutions."""

    @property
    def smallest_side(self) -> int:
        """4: two poolings of stride 2."""
        return 4

    def build(self, input_shape: Shape, classes: int) -> Any:
        """The Keras model, fresh weights: float32 (n, *input_shape) to logits (n, classes)."""
        import tf_keras as keras

        image = x = keras.Input(input_shape, name="image")
        for number, channels in enumerate((6, 16), start=1):
            x = _conv_bn_relu(x, self._scaled(channels), f"conv{number}", kernel=5)
            x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
        x = keras.layers.Flatten(name="flatten")(x)
        for number, units in enumerate((120, 84), start=1):
            x = keras.layers.Dense(self._scaled(units), "relu", name=f"dense{number}")(x)
        return _model(image, x, classes, "lenet5")


@dataclass(frozen=True, kw_only=True)
class _Stack(_Family):
    """The base of families of convolutions followed by dense layers.

    Args:
        filters: channels of each convolution.
        units: units of each hidden dense layer.
    """

    filters: tuple[int, ...]
    units: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        _channel_list("filters", self.filters)
        _channel_list("units", self.units)

    def kinds(self) -> frozenset[str]:
        """The prunable kinds of layer; without filters only dense ones."""
        return frozenset({"conv", "dense"} if self.filters else {"dense"})


@dataclass(frozen=True, kw_only=True)
class CNN(_Stack):
    """3x3 convolutions, each followed by a 2x2 max-pooling, then dense layers.

    Args:
        filters: channels of each convolution; an empty list makes a multi-layer perceptron.
        units: units of each hidden dense layer.
    """

    @property
    def smallest_side(self) -> int:
        """2 to the number of convolutions, each with a pooling of stride 2."""
        return int(2 ** len(self.filters))

    def build(self, input_shape: Shape, classes: int) -> Any:
        """The Keras model, fresh weights: float32 (n, *input_shape) to logits (n, classes)."""
        import tf_keras as keras

        image = x = keras.Input(input_shape, name="image")
        for number, channels in enumerate(self.filters, start=1):
            x = _conv_bn_relu(x, self._scaled(channels), f"conv{number}")
            x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x) if self.filters else keras.layers.Flatten(name="flatten")(x)
        for number, units in enumerate(self.units, start=1):
            x = keras.layers.Dense(self._scaled(units), "relu", name=f"dense{number}")(x)
        return _model(image, x, classes, "cnn")


@dataclass(frozen=True, kw_only=True)
class ResNet(_Family):
    """The CIFAR residual network of He et al. 2016 (section 4.2): 6 * blocks + 2 layers of 16, 32 and 64 channels.

    A 1x1 convolution projects the shortcut where the shape changes, as in MLPerf Tiny's ResNet-8.

    Args:
        blocks: residual blocks in each of the three stages: 1 makes ResNet-8, 3 ResNet-20, 9 ResNet-56.
    """

    blocks: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("blocks", self.blocks, 1, 30)

    @property
    def smallest_side(self) -> int:
        """4: two stages of stride 2."""
        return 4

    def build(self, input_shape: Shape, classes: int) -> Any:
        """The Keras model, fresh weights: float32 (n, *input_shape) to logits (n, classes)."""
        import tf_keras as keras

        image = keras.Input(input_shape, name="image")
        x = _conv_bn_relu(image, self._scaled(16), "stem")
        for stage, base in enumerate((16, 32, 64), start=1):
            channels = self._scaled(base)
            for block in range(1, self.blocks + 1):
                name, stride = f"s{stage}b{block}", 2 if stage > 1 and block == 1 else 1
                y = _conv_bn_relu(x, channels, f"{name}a", stride=stride)
                y = _conv_bn(y, channels, f"{name}b")
                shortcut = x if stride == 1 else _conv_bn(x, channels, f"{name}s", kernel=1, stride=stride)
                x = keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([shortcut, y]))
        return _model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), classes, f"resnet{6 * self.blocks + 2}")


@dataclass(frozen=True, kw_only=True)
class MobileNet(_Family):
    """Depthwise separable convolutions (Howard et al. 2017), at the scale of 32x32 images.

    Args:
        stem: channels of the first, full convolution.
        filters: channels of each depthwise separable block.
        strides: stride of each block, 1 or 2.
    """

    stem: int
    filters: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("stem", self.stem, 1, MOST_CHANNELS)
        _channel_list("filters", self.filters)
        _channel_list("strides", self.strides)
        if len(self.strides) != len(self.filters) or any(stride > 2 for stride in self.strides):
            raise ConfigError("strides", f"{len(self.filters)} strides of 1 or 2, one for each of the filters", self.strides)

    @property
    def smallest_side(self) -> int:
        """2 to the number of strides of 2."""
        return int(2 ** self.strides.count(2))

    def build(self, input_shape: Shape, classes: int) -> Any:
        """The Keras model, fresh weights: float32 (n, *input_shape) to logits (n, classes)."""
        import tf_keras as keras

        image = keras.Input(input_shape, name="image")
        x = _conv_bn_relu(image, self._scaled(self.stem), "stem")
        for number, (channels, stride) in enumerate(zip(self.filters, self.strides, strict=True), start=1):
            depthwise = keras.layers.DepthwiseConv2D(3, stride, "same", use_bias=False, name=f"depthwise{number}")
            x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"depthwise{number}_bn")(depthwise(x))
            x = keras.layers.ReLU(name=f"depthwise{number}_relu")(x)
            x = _conv_bn_relu(x, self._scaled(channels), f"pointwise{number}", kernel=1)
        return _model(image, keras.layers.GlobalAveragePooling2D(name="pool")(x), classes, "mobilenet")


@dataclass(frozen=True, kw_only=True)
class Khan(_Stack):
    """The networks of arXiv 2305.08075: strided 3x3 convolutions, LeakyReLU 0.2, max-pooling of stride 1, linear dense layers.

    Args:
        filters: channels of each convolution (stride 2, 'same').
        units: units of each hidden dense layer (no activation).
    """

    def build(self, input_shape: Shape, classes: int) -> Any:
        """The Keras model, fresh weights: float32 (n, *input_shape) to logits (n, classes)."""
        import tf_keras as keras

        image = x = keras.Input(input_shape, name="image")
        for number, channels in enumerate(self.filters, start=1):
            x = keras.layers.Conv2D(self._scaled(channels), 3, 2, "same", name=f"conv{number}")(x)
            x = keras.layers.LeakyReLU(0.2, name=f"conv{number}_relu")(x)
            x = keras.layers.MaxPooling2D(2, 1, "same", name=f"pool{number}")(x)
        x = keras.layers.Flatten(name="flatten")(x)
        for number, units in enumerate(self.units, start=1):
            x = keras.layers.Dense(self._scaled(units), name=f"dense{number}")(x)
        return _model(image, x, classes, "khan")
