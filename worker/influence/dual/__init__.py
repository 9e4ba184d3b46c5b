"""Dual numbers: forward-mode differentiation at little more than the cost of its matrix products.

x + εẋ with ε² = 0 carries a value and its change in a direction; a function of it carries f(x) + ε Df(x)[ẋ].
torch.func.jvp computes the same, for every operation, but by formulas that take up to twice as long
(docs/benchmarks/speed.md). A network with an operation that has no rule here is left to it.

Source: Griewank & Walther, Evaluating Derivatives, 3.1.
"""

from worker.influence.dual import (  # each registers its rules
    activations,
    attention,
    choices,
    elementwise,
    losses,
    norms,
    products,
    shapes,
)
from worker.influence.dual.numbers import Dual, NoRuleError, jvp, primal

__all__ = [
    "Dual",
    "NoRuleError",
    "activations",
    "attention",
    "choices",
    "elementwise",
    "jvp",
    "losses",
    "norms",
    "primal",
    "products",
    "shapes",
]
