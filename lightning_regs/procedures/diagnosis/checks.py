"""The checks, in the order in which they are made: what is wrong early may make later ones cry too."""

from __future__ import annotations

from lightning_regs.procedures.diagnosis import before, trained
from lightning_regs.procedures.diagnosis.findings import Check

# fmt: off
_ALL = (
    # A random order has in a batch about as many classes as any other; sorted data have one class of two, or of ten.
    Check(before.data_order, "A batch has {number:.0f} % of the classes that it has in random order.",
          "Shuffle the training data, DataLoader(..., shuffle=True); where they are, one class is nearly all there is.",
          "points", "sample, as the loader gives them", "label", least=60),
    # A run whose batches or losses do not come again cannot be repeated.
    Check(before.determinism, "Under one seed {also}.",
          "Draw from the global streams of torch, NumPy or Python, or from a generator with a seed; in workers of a "
          "loader, from torch's.",
          "bars", "1 where it comes the same again", least=1),
    # Rules for initial weights presume a mean square of about one. At ten times that root, outputs are ten times what
    # the weights are made for and gradients of the first layer a hundred times; at a hundredth it is next to blind.
    Check(before.input_scale,
          "{name} is given numbers of a root mean square of {whole:.3g}, of {number:.3g} in the largest feature.",
          "Standardize the inputs: subtract each feature's mean over the training set and divide by its standard "
          "deviation; of images in 0 to 255, divide by 255 first.",
          "bars", "root mean square by feature", most=10),
    # Its limit is a multiple of what a net loses that knows nothing. Below is not cried: a net may have been trained.
    Check(before.loss_at_start, "The loss at start is {number:.4g}, {also}.", "", "bars", "loss"),
    # A softmax or sigmoid would be a second one, and the loss far above 0; logits of a batch are never all in [0, 1].
    Check(before.loss_inputs, "What {names} is given fits it.", "", "histogram", "what the loss is given", most=0),
    # In float64 a difference agrees with the gradient to 1e-6 or so; kinks of ReLUs on the way may add a little.
    Check(before.gradients, "Gradients of {n} parameters differ from differences of the loss in float64 by a share of "
          "{number:.1e} at most, in {worst}.",
          "Look for detach(), .data, .item() or a backward of your own on the way to it; a straight-through gradient "
          "is no mistake where it is meant.",
          "bars by decade", "relative difference", most=0.01),
    # Modes may differ as far as they like where a layer such as dropout or batch norm does.
    Check(before.train_and_eval, "In evaluation mode nothing is drawn; training mode differs by {number:.3g} %{why}.",
          "Use nn.Dropout, or F.dropout(x, p, training=self.training), and look for a `not` before self.training; a "
          "net that samples by design is no mistake.",
          "bars", "outputs differ by (%)"),
    # Exactly zero where samples are apart; what a normalization over the batch leaks is 1 / N and more.
    Check(before.sample_leak, "In evaluation mode {told}.",
          "Look for a mean, softmax, normalization, reshape or attention over dimension 0, that of samples; a loss "
          "that compares samples, as contrastive ones do, is no mistake.",
          "bars", "gradient by other samples (% of the largest)", most=1e-4),
    # Of usual initial weights on standardized data it is under a fifth.
    Check(before.units, "Of {n} activations, {worst} has the most units that are dead or outputs that are saturated, "
          "{number:.3g} %.",
          "Standardize the inputs, use initial weights for the activation (He for ReLU, Xavier for tanh), or "
          "normalize.", "bars", "dead or saturated (%)", most=50),
    # Its limit is a tenth of the way from a net that knows nothing to a perfect one, or half of it.
    Check(trained.overfit_one_batch,
          "{steps} steps of Adam at {rate:g} bring {n} samples' loss from {first:.4g} to {number:.4g}{should}.",
          "Make one batch work first: look at the loss, at what it is given, and whether each layer gets a gradient.",
          "lines", "step on one batch", "loss"),
    # Its limit is a tenth of that way: at best zeros give the entropy of the labels, which is nearly all of it.
    Check(trained.inputs_matter,
          "With zeros for inputs the loss of one batch ends at {zeros:.4g}, with the inputs at {inputs:.4g}.",
          "See whether the inputs reach the loss: a variable overwritten, a layer whose outputs are all zero, a mask.",
          "lines", "step on one batch", "loss"),
    # About a thousandth is the rule of thumb; Adam starts at some hundredths in small nets. A layer that a step changes
    # by a third has forgotten its initial weights after three; a step below 1e-7 is lost in the rounding of float32.
    Check(trained.update_ratio, "A step changes weights by a share of {number:.2g} of their norm in the median.",
          "{way} the learning rate.", "bars by decade", "share of its norm that a step changes", least=1e-7, most=0.3),
    # In standard deviations under shuffled labels: chance reaches three once in some hundred diagnoses.
    Check(trained.labels, "On held-out samples the loss is {true:.4g} with their labels and {shuffled:.4g} with "
          "shuffled ones, {number:.3g} standard deviations apart.",
          "Look at samples beside their labels: one shuffled without the other, an index off by one; or they are "
          "noise.",
          "histogram", "held-out loss under shuffled labels, and with theirs (dashed)", least=3),
    # The suggestion is a tenth of the rate at which the loss is least, and good to an order of magnitude. A hundred
    # times is ten times the rate at which the loss was least, where trainings diverge; below a thousandth none learns.
    Check(trained.learning_rate, "The learning rate is {number:.2g}, and a range test suggests {suggested:.2g}.",
          "Train at about {suggested:.1g}, or rates around it.", "lines"),
)
# fmt: on
CHECKS = {check.measure.__name__: check for check in _ALL}
