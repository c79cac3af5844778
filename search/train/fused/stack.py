"""Trainings that go through their epochs together."""

from __future__ import annotations

import contextlib
import math
import random
import re
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from search.train.batches import ResidentBatches
from search.train.data.arrays import Array
from search.train.diagnostics.diary import due
from search.train.estimator import Estimator
from search.train.fused.inputs import Fed, Feed, Inputs
from search.train.fused.losses import stacked_loss
from search.train.fused.program import Layered, Program, Vmapped, one_after_the_other
from search.train.fused.storage import Storage, kind_of
from search.train.fused.streams import Streams, partners_of
from search.train.fused.watching import Watch
from search.train.loop import Training
from search.train.losses import predictions_of
from search.train.steps import NonFiniteError

_EVALUATED = 16384
"""Examples that are evaluated at once, over all networks."""
_PROVED = 8
_HUGE = 1000.0
_TOLERANCE = {torch.float64: 1e-9}
Epoch = tuple[float, Array]
"""The mean training loss, and the predictions on the validation split after it."""


_ONE_BY_ONE = r".*not yet implemented the batching rule for (\S+?)\. "
"""torch's warning of an operation that it does for one network after the other, which is no faster than alone."""


class CannotStackError(Exception):
    """Trainings of one form that are not the same in a stack as alone."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """What all stacks of one form have in common: the data, and how their networks are run."""

    inputs: Inputs
    program: type[Program]


class Stack:
    """Trainings of one form (see `form_of`), each at an epoch of its own; they share nothing but the program."""

    def __init__(self, trainings: Sequence[Training], common: Common | None = None) -> None:
        """Take them over, until `release`; `common` is another stack's of the same form."""
        self.members = sorted(trainings, key=kind_of)
        first = self.members[0]
        assert isinstance(first.model, Estimator)
        assert isinstance(first.batches, ResidentBatches)
        self._estimator, self._batches = first.model, first.batches
        self._plan, self._steps, self._autocast = first.plan, first.steps_per_epoch, first.rules.autocast
        self._storage = Storage(self.members)
        self._program = (Vmapped if common is None else common.program)(self.members, self._storage)
        like = self._storage.weights
        self._loss = stacked_loss([member.loss for member in self.members], like)
        self._streams = Streams(self.members)
        inputs = Inputs(self._estimator, self._batches) if common is None else common.inputs
        self.common = Common(inputs=inputs, program=type(self._program))
        """What another stack of the same form can have, too."""
        self._means = torch.stack([_estimator(member).target_mean for member in self.members]).view(
            len(self.members), 1, -1
        )
        self._plain = float(self._estimator.target_std) == 1  # as it is for classes
        self._validation = torch.as_tensor(first.dataset.split.validation, device=like.device)
        self._task = first.dataset.examples.task
        self._clip_norm = _limits([member.rules.clip_norm for member in self.members], like)
        self._clip_value = _limits([member.rules.clip_value for member in self.members], like)
        self._served: dict[str, str] = {}
        self._known = common is not None

    def prove(self) -> None:
        """Raise CannotStackError where the networks do not run in a stack, or do not give what they give alone.

        What vmap takes does not go by the values of a whole batch: only then may all examples be one. Where another
        stack found out how networks of this form are run, these are just compared.
        """
        self._prove()
        if self._known:
            return
        with contextlib.suppress(CannotStackError, TypeError):
            self._use(Layered)
            self._prove()
            self._prove_apart()
            return
        self._use(Vmapped)

    def _use(self, program: type[Program]) -> None:
        self._program = program(self.members, self._storage)
        self.common = Common(inputs=self.common.inputs, program=program)

    def _prove(self) -> None:
        given = self.common.inputs.at(self._validation[:_PROVED])
        drawn, traits = _generators(), self._program.traits
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=_ONE_BY_ONE)
                together = self._rehearsed(given.expand(len(self.members), *given.shape)), self._program.judged(given)
        except Exception as error:
            raise CannotStackError(_in_words(error)) from error
        if _generators() != drawn:
            raise CannotStackError("its network or loss draws random numbers that would be the same for all")
        if self._program.traits != traits:
            raise CannotStackError("its network changes its attributes as it runs")
        for stacked, alone in zip(together, one_after_the_other(self.members, given), strict=True):
            tolerance = _TOLERANCE.get(stacked.dtype, 1e-3)
            if stacked.shape != alone.shape or not torch.allclose(
                stacked, alone, rtol=tolerance, atol=tolerance, equal_nan=True
            ):
                raise CannotStackError("its networks give something else in a stack than alone")

    def _prove_apart(self) -> None:
        """Raise CannotStackError where what some networks are given changes what others give."""
        given = self.common.inputs.at(self._validation[:_PROVED])
        each = given.expand(len(self.members), *given.shape)
        expected = self._rehearsed(each)
        for factor in (_HUGE, -_HUGE):
            other = each.clone()
            other[1::2] *= factor
            if not torch.equal(self._rehearsed(other)[::2], expected[::2]):
                raise CannotStackError("its networks look at each other's examples")

    def run_epoch(self) -> list[Epoch | NonFiniteError]:
        """Train each member for an epoch; return what came of it, in the place of one that failed why it did."""
        failures: dict[int, NonFiniteError] = {}
        losses = self._trained(failures)
        found = zip(losses.tolist(), self._predictions(), strict=True)
        return [failures.get(row, epoch) for row, epoch in enumerate(found)]

    def _trained(self, failures: dict[int, NonFiniteError]) -> Tensor:
        """Take the steps of an epoch; return the mean losses (M,)."""
        orders = self._open()
        firsts = [member.step for member in self.members]
        marks = self._marks()
        totals = self._storage.weights.new_zeros(len(self.members))
        feed = self._feed(orders)
        for step in range(self._steps):
            totals += self._step(step, firsts, feed, failures)
            for row in marks[step]:
                self.members[row].step = firsts[row] + step
                self.members[row].count_step()
        for member, first in zip(self.members, firsts, strict=True):
            member.step = first + self._steps - 1
            member.follow_schedule()
            member.step += 1
        return totals / orders.shape[1]

    def some_steps(self, ahead: int) -> Iterator[None]:
        """Take the steps of an epoch one by one, for somebody who measures them and throws the members away.

        Nothing is made for more steps than `ahead` at once.
        """
        orders = self._open()
        firsts = [member.step for member in self.members]
        feed = self._feed(orders, ahead)
        self._program.look_ahead(ahead)
        for step in range(self._steps):
            self._step(step, firsts, feed, {})
            yield

    def release(self, training: Training) -> None:
        """Let a member go on alone, or in another stack, or write a checkpoint."""
        self._storage.settle(self.members.index(training))

    def _open(self) -> Tensor:
        """Begin the members' next epochs; return the orders of their examples, int64 (M, N)."""
        orders = []
        for row, member in enumerate(self.members):
            orders.append(member.open_epoch())
            self._streams.begin(row)
        self._program.begin([member.epoch for member in self.members], self._steps)
        for part in self._storage.parts:
            part.begin(self._storage.weights)
        return torch.stack(orders).to(self._storage.weights.device)

    def _feed(self, orders: Tensor, ahead: int | None = None) -> Feed:
        targets, plan = self._batches.targets, self._plan
        return Feed(self.common.inputs, targets, orders, plan.step_size, plan.parts, ahead)

    def _marks(self) -> dict[int, list[int]]:
        """Return the rows of the members for which a cycle ends with a step of this epoch."""
        marks: dict[int, list[int]] = defaultdict(list)
        for row, member in enumerate(self.members):
            for end in member.cycle_ends:
                if member.step < end <= member.step + self._steps:
                    marks[end - member.step - 1].append(row)
        return marks

    def _step(self, step: int, firsts: Sequence[int], feed: Feed, failures: dict[int, NonFiniteError]) -> Tensor:
        """Take a step of the epoch; return the losses summed over its examples (M,)."""
        watch = self._watch(step, firsts)
        number = feed.number(step)
        totals: Tensor | None = None
        for place, part in enumerate(feed.parts(step)):
            losses, changed = self._losses(step, place, part, watch)
            size = part.examples.shape[1]
            share = losses.sum() if size == number else (losses * (size / number)).sum()
            if not math.isfinite(share.detach()):
                self._find(losses, part, changed, step, firsts, failures)
            found = torch.autograd.grad(share, list(self._storage.parameters.values()))
            self._storage.take(found, more=place > 0)
            summed = losses.detach() * size
            totals = summed if totals is None else totals + summed
        assert totals is not None
        with torch.no_grad():
            gradients = self._clipped(self._storage.gradients)
            for part_of in self._storage.parts:
                part_of.update(step, self._storage.weights, gradients)
            if self._storage.averages is not None:
                self._storage.averages.update()
            if watch is not None:
                watch.close(gradients, failures)
        return totals

    def _losses(self, step: int, number: int, given: Fed, watch: Watch | None) -> tuple[Tensor, Tensor | None]:
        """Return the mean losses (M,) of a part of a step's examples, and their inputs where these were changed."""
        like = self._storage.weights
        inputs, targets = given.inputs, given.targets
        with torch.autocast(like.device.type, self._autocast, enabled=self._autocast is not None):
            mixed = None
            if self._streams.active:
                inputs, mixes = self._streams.changed(inputs)
                mixed = partners_of(mixes, targets, like)
            outputs = self._placed(self._program.outputs(inputs, step, number, watch))
            losses = self._loss(outputs, targets)
            if mixed is not None:
                partners, shares, where = mixed
                both = shares * losses + (1 - shares) * self._loss(outputs, targets.gather(1, partners))
                losses = torch.where(where, both, losses)
        return losses, inputs if self._streams.active else None

    def _find(
        self,
        losses: Tensor,
        given: Fed,
        changed: Tensor | None,
        step: int,
        firsts: Sequence[int],
        failures: dict[int, NonFiniteError],
    ) -> None:
        """Find out why losses are not finite: such members have failed, the others know nothing of it."""
        for row, member in enumerate(self.members):
            if row in failures or bool(torch.isfinite(losses[row])):
                continue
            member.step = firsts[row] + step
            self._program.catch_up(row, step)
            raw = self._batches.inputs[given.examples[row]]
            try:
                member.require_finite(member.model, raw, None if changed is None else changed[row], losses[row])
            except NonFiniteError as error:
                failures[row] = error

    def _watch(self, step: int, firsts: Sequence[int]) -> Watch | None:
        if not due(step, self._steps) or all(member.diary is None for member in self.members):
            return None
        for member, first in zip(self.members, firsts, strict=True):
            member.step = first + step
            member.follow_schedule()
        return Watch(self.members, self._storage, self._served)

    def _clipped(self, gradients: Tensor) -> Tensor:
        if self._clip_value is not None:
            gradients = gradients.clamp(-self._clip_value, self._clip_value)
        if self._clip_norm is not None:
            norms = gradients.norm(dim=1, keepdim=True)
            factors = (self._clip_norm / (norms + 1e-6)).clamp(max=1.0)
            gradients = gradients * factors.where(self._clip_norm.isfinite(), 1.0)  # a norm may be infinite itself
        return gradients

    def _placed(self, outputs: Tensor) -> Tensor:
        """Return outputs (M, N, ...) where the targets are."""
        if self._plain and outputs.shape[2:] == self._means.shape[2:] and outputs.dtype == self._means.dtype:
            return outputs + self._means
        networks, number = outputs.shape[:2]
        placed = self._estimator.in_unit(outputs.flatten(0, 1), networks * number)
        return placed.view(networks, number, *placed.shape[1:]) + self._means

    def _predictions(self) -> list[Array]:
        """Return each member's predictions on the validation split."""
        parts = []
        for some in torch.split(self._validation, max(1, _EVALUATED // len(self.members))):
            outputs = self._placed(self._program.judged(self.common.inputs.at(some)))
            parts.append(predictions_of(outputs.flatten(0, 1), self._task).reshape(len(self.members), len(some), -1))
        whole = np.concatenate(parts, axis=1)
        return list(whole if self._task == "classification" else whole[:, :, 0])

    def _rehearsed(self, given: Tensor) -> Tensor:
        """Take a step that leaves no trace; return what inputs (M, N, *shape) give in the first step of all."""
        buffers = {name: value.clone() for name, value in self._storage.buffers.items()}
        chosen = self._validation[:_PROVED].expand(len(self.members), -1)
        parameters = list(self._storage.parameters.values())
        try:
            self._program.begin([1] * len(self.members), 1)
            outputs = self._placed(self._program.outputs(self.common.inputs.at(chosen), 0, 0))
            torch.autograd.grad(self._loss(outputs, self._batches.targets[chosen]).sum(), parameters)
            for name, value in buffers.items():
                self._storage.buffers[name].copy_(value)
            return self._program.rehearsed(given).detach()
        finally:
            for name, value in buffers.items():
                self._storage.buffers[name].copy_(value)


def _estimator(member: Training) -> Estimator:
    assert isinstance(member.model, Estimator)
    return member.model


def _generators() -> Hashable:
    """Return the states of all generators that a network may draw from."""
    numpys = np.random.get_state(legacy=False)
    inner = numpys["state"]
    of_numpy = (inner["key"].tobytes(), inner["pos"], numpys["has_gauss"], numpys["gauss"])
    return random.getstate(), of_numpy, torch.get_rng_state().numpy().tobytes()


def _in_words(error: Exception) -> str:
    """Return why networks do not run in a stack; what vmap says is for those who wrote the call of it."""
    if slow := re.match(_ONE_BY_ONE, str(error)):
        return f"torch does {slow[1]} for one network after the other"
    if "randomness" in str(error):
        return "its network draws random numbers"
    if ".item()" in str(error) or "control flow" in str(error):
        return "what its network does depends on the values of tensors (.item(), or an `if` on one)"
    return in_a_line(error)


def in_a_line(error: Exception) -> str:
    """Return an error's type and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _limits(given: Sequence[float | None], like: Tensor) -> Tensor | None:
    """Return limits (M, 1), none being infinite; None where nobody has one."""
    if all(limit is None for limit in given):
        return None
    return like.new_tensor([float("inf") if limit is None else limit for limit in given]).unsqueeze(1)
