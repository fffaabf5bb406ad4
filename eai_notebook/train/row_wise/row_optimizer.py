"""Have a Keras optimizer update embedding tables by rows, and everything else as it always does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from eai_notebook.errors import EaiError
from eai_notebook.train.data_sharding import say
from eai_notebook.train.row_wise import embedding_lookup
from eai_notebook.train.row_wise.idle_steps import idle_step, terms
from eai_notebook.train.row_wise.row_table import AVERAGE, RowTable, RowWise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def check_mode(mode: Any) -> None:
    """Refuse what is no mode.

    Raises:
        EaiError: It is neither None nor a `RowWise`.
    """
    if mode is not None and mode not in get_args(RowWise):
        raise EaiError(
            f"row_wise={mode!r} is unknown",
            f"use one of {', '.join(map(repr, get_args(RowWise)))}, or leave it out",
            code="option-invalid",
        )


class RowTables:
    """The tables of an optimizer, and of those that it hands its work to.

    Args:
        optimizer: A built Keras optimizer.
        variables: The variables that it was built with.
        mode: ``"exact"`` or ``"lazy"``.
    """

    def __init__(self, optimizer: Any, variables: Sequence[Any], mode: RowWise) -> None:
        embedding_lookup.install()
        self.mode = mode
        self._tables: dict[int, RowTable] = {}
        for part in _plain_parts(optimizer):
            known = {id(each) for each in part._trainable_variables}  # noqa: SLF001
            own = [each for each in variables if id(each) in known and _may_be_table(each)]
            idle = None if _whole(part) else idle_step(part)
            if idle is None or (mode == "exact" and not _is_exact(idle)):
                continue
            for variable in own:
                self._tables[id(variable)] = RowTable(part, variable, idle, mode)

    @property
    def active(self) -> list[RowTable]:
        """The tables whose rows were looked up."""
        return [table for table in self._tables.values() if table.active]

    def settle(self) -> None:
        """Bring all rows of all tables up to date, in memory; all ranks must do it together."""
        for table in self.active:
            table.settle()

    def apply(self, optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Make `optimizer`'s step."""
        self._refuse_late(gradients, variables)
        self._by_rows(optimizer).apply(list(gradients), list(variables))

    def _refuse_late(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Leave tables alone whose lookups were traced before they were known."""
        import tensorflow as tf

        for gradient, variable in zip(gradients, variables, strict=True):
            table = self._tables.get(id(variable))
            if not isinstance(gradient, tf.IndexedSlices) or (table and table.active):
                continue
            if table is None:
                _say_once(variable, "its optimizer computes over whole tables")
            elif table.can_begin_late or tf.executing_eagerly() or table.trace_again():
                table.activate()
            else:
                table.refused = True
                _say_once(variable, "the step was traced before optimizer.build(variables)")

    def _by_rows(self, optimizer: Any) -> Any:
        """Return a shallow copy of `optimizer`, with the same variables, that updates by rows."""
        copy = object.__new__(type(optimizer))
        copy.__dict__.update(vars(optimizer))
        if getattr(optimizer, "inner_optimizer", None) is not None:
            copy.__dict__["inner_optimizer"] = self._by_rows(optimizer.inner_optimizer)
        elif hasattr(optimizer, "parts"):
            copy.__dict__["parts"] = [self._by_rows(part) for part in optimizer.parts]
        else:
            copy.__dict__["_backend_apply_gradients"] = lambda gradients, variables: self._step(
                copy, gradients, variables
            )
        return copy

    def _step(self, optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Clip, decay and update, as `keras.Optimizer` does, in its order."""
        import tensorflow as tf

        found = [self._tables.get(id(variable)) for variable in variables]
        tables = [table if table is not None and table.active else None for table in found]
        rows = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]
        # A dense gradient of a table, for example of a regularizer, changes all of its rows.
        for table, sparse in zip(tables, rows, strict=True):
            if table is not None and not sparse:
                table.settle()
        by_rows = [table is not None and sparse for table, sparse in zip(tables, rows, strict=True)]
        if not any(by_rows):
            type(optimizer)._backend_apply_gradients(optimizer, gradients, variables)  # noqa: SLF001
            return
        gradients = _clipped(optimizer, gradients)
        rest = [number for number, each in enumerate(by_rows) if not each]
        whole = [variables[number] for number in rest]
        rate = optimizer.learning_rate
        if whole:
            optimizer._apply_weight_decay(whole)  # noqa: SLF001
        optimizer._backend_update_step([gradients[number] for number in rest], whole, rate)  # noqa: SLF001
        for table, gradient in zip(tables, gradients, strict=True):
            if table is not None and isinstance(gradient, tf.IndexedSlices):
                table.update(optimizer, gradient, rate)
        if optimizer.use_ema:
            averages = list(getattr(optimizer, AVERAGE))
            for table, each in zip(tables, by_rows, strict=True):
                if table is not None and each:
                    averages[table.position] = None
            optimizer.__dict__[AVERAGE] = averages
            optimizer._update_model_variables_moving_average(optimizer._trainable_variables)  # noqa: SLF001


def _plain_parts(optimizer: Any) -> Iterator[Any]:
    """Yield the optimizers that update variables themselves."""
    inner = getattr(optimizer, "inner_optimizer", None)
    parts = [inner] if inner is not None else getattr(optimizer, "parts", None)
    if parts is None:
        yield optimizer
        return
    for part in parts:
        yield from _plain_parts(part)


def _whole(optimizer: Any) -> bool:
    """Return whether a setting of `optimizer` has it compute over whole tables."""
    return bool(
        optimizer.gradient_accumulation_steps
        or (optimizer.use_ema and optimizer.ema_overwrite_frequency)
    )


def _is_exact(idle: Any) -> bool:
    return idle.is_known and terms(idle.drift) is not None


def _may_be_table(variable: Any) -> bool:
    shape = tuple(variable.shape)
    plain = getattr(variable, "_value", None)
    return (
        len(shape) == 2  # noqa: PLR2004
        and plain is not None
        and str(variable.dtype) == "float32"
        and variable.constraint is None
        and not getattr(variable, "overwrite_with_gradient", False)
    )


def _clipped(optimizer: Any, gradients: Sequence[Any]) -> list[Any]:
    """Clip gradients, of which some are rows; rows that are not there are zeros."""
    import tensorflow as tf

    sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]
    values = [g.values if s else g for g, s in zip(gradients, sparse, strict=True)]
    clipped = optimizer._clip_gradients(values)  # noqa: SLF001
    return [
        tf.IndexedSlices(c, g.indices, g.dense_shape) if s else c
        for c, g, s in zip(clipped, gradients, sparse, strict=True)
    ]


_said: set[str] = set()


def _say_once(variable: Any, why: str) -> None:
    line = f"row_wise: `{variable.path}` is updated as a whole: {why}"
    if line not in _said:
        _said.add(line)
        say(line)
