"""Many small networks of one shape trained as one program: a trial in a stack is the same trial as alone.

Weights lie side by side in one tensor, forward passes go through `torch.func.vmap`, and gradients, clipping and the
optimisers' updates are a few operations on all of them, where a small network alone leaves the processor waiting
between hundreds of tiny ones (compare HFTA, Wang et al. 2021). What differs between trials is a vector.
"""

from search.train.fused.alike import difference, form_of, why_alone
from search.train.fused.stack import CannotStackError, Common, Stack, in_a_line

__all__ = ["CannotStackError", "Common", "Stack", "difference", "form_of", "in_a_line", "why_alone"]
