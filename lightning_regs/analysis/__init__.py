"""What one measures beside training: expressivity, kernel machines, fixed features and minimum-norm solutions."""

from __future__ import annotations

from lightning_regs.analysis.expressivity import (
    ReluFit,
    deep_relu,
    evaluate_relu,
    fit_relu,
    max_width,
    num_connections,
)
from lightning_regs.analysis.features import (
    ConvFilters,
    gabor_features,
    gabor_filters,
    random_conv_features,
    random_conv_filters,
)
from lightning_regs.analysis.kernels import (
    GaussianKernel,
    Selection,
    error_rate,
    fit,
    gaussian_kernel,
    gram_matrix,
    mean_squared_distance,
    one_hot,
    predict,
    select,
    squared_distances,
)
from lightning_regs.analysis.min_norm import (
    coefficient_norm,
    gradient_descent,
    min_norm_solution,
    outside_span,
    rkhs_norm,
)
from lightning_regs.analysis.packed import (
    NotPositiveDefiniteError,
    PackedCholesky,
    SpdSolution,
    StoredPanels,
    SymmetricOperator,
    full_precision,
    solve_spd,
    symmetric_matmul,
)
from lightning_regs.analysis.streamed import KernelMachine, StreamedKernel, recomputed_kernel, stored_kernel

__all__ = [
    "ConvFilters",
    "GaussianKernel",
    "KernelMachine",
    "NotPositiveDefiniteError",
    "PackedCholesky",
    "ReluFit",
    "Selection",
    "SpdSolution",
    "StoredPanels",
    "StreamedKernel",
    "SymmetricOperator",
    "coefficient_norm",
    "deep_relu",
    "error_rate",
    "evaluate_relu",
    "fit",
    "fit_relu",
    "full_precision",
    "gabor_features",
    "gabor_filters",
    "gaussian_kernel",
    "gradient_descent",
    "gram_matrix",
    "max_width",
    "mean_squared_distance",
    "min_norm_solution",
    "num_connections",
    "one_hot",
    "outside_span",
    "predict",
    "random_conv_features",
    "random_conv_filters",
    "recomputed_kernel",
    "rkhs_norm",
    "select",
    "solve_spd",
    "squared_distances",
    "stored_kernel",
    "symmetric_matmul",
]
