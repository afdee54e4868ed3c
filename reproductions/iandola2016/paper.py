"""Iandola et al.: SqueezeNet, AlexNet-level accuracy with 50x fewer parameters (1602.07360)."""

from functools import partial
from typing import Any

from lightning_regs.study import (
    Cell,
    Cells,
    Claim,
    Deviation,
    Family,
    Metric,
    Paper,
    Scale,
    Source,
    difference,
    grid,
    lower,
    points,
    sweep,
    trained,
    value,
)

CONFIG, ALEXNET = "configs/iandola2016/squeezenet.yaml", "configs/iandola2016/alexnet.yaml"
RATIOS, SHARES = (0.25, 0.5, 0.75, 1.0), (0.01, 0.25, 0.75, 0.99)
RELEASED = Cells(Cell(f"released/{bits}-bits", "iandola2016.tasks:released", {"bits": bits}) for bits in (8, 6))
FASHION = {"data.source": "fashion_mnist", "data.train_size": 5000, "data.batch_size": 128}
CIFAR = {"data.source": "cifar10", "data.batch_size": 128, "data.image_size": 32, "data.padding": 4,
         "data.random_crop": True, "data.random_flip": True, "trainer.max_epochs": 100}  # fmt: skip


def _varied(name: str, axis: str, numbers: tuple[Any, ...], base: dict[str, Any]) -> Cells:
    values = {f"{n}": {f"model.architecture_args.{axis}": n} for n in numbers}
    return grid(f"{name}/{{number}}", CONFIG, base, number=values)


def _cells(alexnet: float, **squeezenet: Any) -> Cells:
    """Return a net like AlexNet of a width, and SqueezeNets of metaparameters, each of which differs in one or two."""
    base = {f"model.architecture_args.{name}": number for name, number in squeezenet.items()}
    half = base | {"model.architecture_args.squeeze": 0.5}
    return (
        grid("alexnet", ALEXNET, {"model.architecture_args.width": alexnet})
        + grid("squeezenet", CONFIG, base)
        + _varied("bypass", "bypass", ("simple", "complex"), base)
        + _varied("squeeze", "squeeze", RATIOS, base)
        + _varied("share3x3", "share3x3", SHARES, half)
        + grid("study/agreement", CONFIG, base | {"other": half}, seeds=2)
    )


SQUEEZE = Source("paper", "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
                 "Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer", 2016, "arxiv.org/abs/1602.07360")  # fmt: skip
CODE = Source("code", "The authors' models", link="github.com/forresti/SqueezeNet")
_says = partial(Claim, source=SQUEEZE)
_counts = partial(_says, on=("quick",))
_lower = partial(lower, source=SQUEEZE, valid_if=trained(["squeezenet", "squeeze/*", "share3x3/*"], at_least=90))


def _of(bits: int, metric: str) -> dict[str, Any]:
    return {"measure": value(f"released/{bits}-bits", metric)}


def _plateau(cell: str, before: str, **about: Any) -> dict[str, Any]:
    return {"measure": difference(cell, before, "test_error"), "within": 0.5, "published": 0.0,
            "valid_if": trained([cell, before], at_least=90)} | about  # fmt: skip


CLAIMS = (
    _says("1", "SqueezeNet errs as seldom as a net like AlexNet of 50 times its parameters: at most a point more.",
          difference("squeezenet", "alexnet", "test_error"), at_most=1, published=-0.3, where="Table 2",
          valid_if=trained(["squeezenet", "alexnet"], at_least=90), headline=True),
    _counts("2", "AlexNet has 50 times the parameters of SqueezeNet.", **_of(8, "fewer"), within=2.5, published=50.0,
            where="Table 2", headline=True),
    _counts("3-8", "Pruned and with 8 bits a weight SqueezeNet takes 363 times fewer bytes than AlexNet.",
            **_of(8, "rate_quantized"), within=18, published=363.0, where="Table 2", headline=True),
    _counts("3-6", "Pruned and with 6 bits a weight SqueezeNet takes 510 times fewer bytes than AlexNet.",
            **_of(6, "rate_quantized"), within=25, published=510.0, where="Table 2", headline=True),
    _counts("3-6-huffman", "With 6 bits and Huffman code it takes at least 485 times fewer.",
            **_of(6, "rate_huffman"), at_least=485, published=510.0, where="Table 2"),
    _counts("4", "Small as SqueezeNet is, compressing it with 6 bits makes it about 10 times smaller.",
            **_of(6, "gain_quantized"), within=1.5, published=10.0, where="section 4"),
    _says("4-accuracy", "It loses no accuracy.", out_of_reach="ImageNet; han2016 measures it of LeNets"),
    _lower("5", "A squeeze ratio of 0.75 has fewer errors than one of 0.125.", "squeeze/0.75", "squeezenet", 5.7,
           where="Figure 3a, top-5"),
    _says("5-plateau", "A ratio of 1 has no fewer: the two are within half a point.",
          **_plateau("squeeze/1.0", "squeeze/0.75"), where="Figure 3a"),
    _lower("6", "Half of the filters that expand being 3x3 has fewer errors than 1 %.", "squeeze/0.5", "share3x3/0.01",
           9.3, where="Figure 3b, top-5", origin="recalled"),
    _says("6-plateau", "99 % of 3x3 filters have no fewer errors than half: the two are within half a point.",
          **_plateau("share3x3/0.99", "squeeze/0.5"), where="Figure 3b"),
    _lower("7-simple", "A simple bypass, which adds no parameters, has fewer errors than none.", "bypass/simple",
           "squeezenet", 2.9, where="Table 3", headline=True),
    _lower("7-complex", "A complex bypass has fewer errors than none.", "bypass/complex", "squeezenet", 1.3,
           where="Table 3"),
    _lower("7-both", "A simple bypass has fewer errors than a complex one.", "bypass/simple", "bypass/complex", 1.6,
           where="Table 3"),
    _counts("8", "Version 1.0 takes 2.4 times the operations of version 1.1.", **_of(8, "flops") | {"source": CODE},
            within=0.3, published=2.4),
)  # fmt: skip

ONES = {"none": "squeezenet", "simple": "bypass/simple", "complex": "bypass/complex", "like AlexNet": "alexnet"}
SQUEEZED = {0.125: "squeezenet"} | {ratio: f"squeeze/{ratio}" for ratio in RATIOS}
SHARED = {share: "squeeze/0.5" if share == 0.5 else f"share3x3/{share}" for share in sorted((*SHARES, 0.5))}
SIZES = Family(
    "Nets of the released shapes",
    (
        Metric("fewer", "AlexNet over SqueezeNet: parameters", "x"),
        Metric("rate_quantized", "AlexNet over the compressed net: bytes", "x"),
        Metric("rate_huffman", "The same, in Huffman code", "x"),
        Metric("gain_quantized", "SqueezeNet over the compressed net: bytes", "x"),
        Metric("gain_huffman", "The same, in Huffman code", "x"),
        Metric("megabytes_quantized", "Compressed size, MB", "MB"),
        Metric("megabytes_huffman", "In Huffman code, MB", "MB"),
        Metric("gflops", "Operations an image, 10^9"),
        Metric("flops", "Operations of version 1.1", "x"),
    ),
    shown=6,
)

PAPER = Paper(
    "iandola2016", "SqueezeNet", SQUEEZE.authors, 2016, "1602.07360",
    summary="Modules that squeeze a map to few channels before they expand it make a net as good as AlexNet of a "
    "fiftieth of its parameters, and compression makes it 510 times smaller.",
    scales=(
        Scale("quick", "Digits of 8x8 pixels, nets of 33 thousand and 1.6 million parameters: 4 minutes on two cores",
              RELEASED + _cells(2.42, expand=64, growth=64), overrides={"trainer.max_epochs": 10}, seeds=5),
        Scale("standard", "5,000 images of Fashion-MNIST, 124 thousand and 6.1 million: 90 minutes on two cores",
              _cells(2.1), overrides=FASHION, seeds=3),
        Scale("paper", "CIFAR-10, 125 thousand and 6.5 million parameters, 100 epochs: a day on a GPU", _cells(2.0),
              overrides=CIFAR, seeds=5),
    ),
    metrics=(SIZES,),
    claims=CLAIMS,
    figures=(
        sweep("squeeze", "Test error by the squeeze ratio", "test_error", {"SqueezeNet": SQUEEZED},
              "The paper's Figure 3a: more filters that squeeze, more parameters.", x="squeeze ratio",
              y="test error (%)"),
        sweep("share", "Test error by the share of 3x3 filters", "test_error", {"squeeze ratio 0.5": SHARED},
              "The paper's Figure 3b.", x="share of 3x3 filters", y="test error (%)"),
        points("bypass", "Test error by bypass", "test_error", ONES, y="test error (%)"),
    ),
    deviations=(
        Deviation("", "No batch norm, Xavier's weights, dropout of half the last map", "Batch norm behind all "
                  "convolutions but the last, He's weights, no dropout: another net", "Without it narrow nets of some "
                  "seeds do not learn"),
        Deviation("", "AlexNet", "Two convolutions and three linear layers with batch norm; in sizes, torchvision's "
                  "AlexNet, of 61.1 million parameters", "The paper's has groups, and 0.2 % fewer"),
        Deviation("", "Eight fire modules on 227x227 pixels", "Four, behind a 3x3 convolution, without a ReLU "
                  "behind the last one", "Only directions can be compared"),
        Deviation("quick", "Sizes of a trained net", "Weights are drawn; densities, bits and indices are those of the "
                  "released file, and biases are counted", "Other Huffman codes; none on the rest"),
        Deviation("quick", "ImageNet", "Digits of 8x8 pixels, half the filters, 10 epochs", "Only directions can be "
                  "compared"),
        Deviation("standard", "ImageNet", "5,000 images of Fashion-MNIST, 15 epochs", "Only directions can be "
                  "compared"),
        Deviation("paper", "ImageNet", "CIFAR-10", "Only directions can be compared"),
    ),
)  # fmt: skip
