"""`DistributedOptimizer`: any Keras optimizer on the average gradient of all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from eai_notebook import collective
from eai_notebook.errors import EaiError
from eai_notebook.train import first_weights, loss_scale, matching, saving
from eai_notebook.train.autograph import not_converted
from eai_notebook.train.exchange import gradients as exchange
from eai_notebook.train.exchange.wire_state import OWED, Sparse, Wire, default_format
from eai_notebook.train.late_variables import has_value, refuse_to_run
from eai_notebook.train.recording import graph_timestamps
from eai_notebook.train.row_wise.row_optimizer import RowTables, check_mode
from eai_notebook.train.sharded import sharded_variables

if TYPE_CHECKING:
    from collections.abc import Sequence

    import tensorflow as tf

    from eai_notebook.train.row_wise.row_table import RowWise

loss_scale.decide_together()
loss_scale.show_to_averages()
saving.install()


@keras.saving.register_keras_serializable(package="eai_notebook")
class DistributedOptimizer(keras.optimizers.Optimizer):
    """Average the gradients over all ranks, then let `inner_optimizer` apply them.

    Every rank then makes the same step, as one process with the global batch would.
    Use it wherever a Keras optimizer goes: ``model.compile(optimizer=...)``, a saved
    model, a custom loop. Without a group of ranks it is the inner optimizer.

    - Each gradient travels as soon as it is ready, while others are still computed.
    - The weights and the optimizer's state are taken over from rank 0 before the first
      step that is traced. In an eager loop the first gradients are older than that; give
      all ranks the same initial weights there, or use ``tf.function``.
    - Gradients meet by variable, in whatever order a rank gives them; where ranks have
      gradients of different variables, all of them get an error that names these.
    - Clipping, weight decay, moving averages and loss scaling act on the average.
    - With ``gradient_accumulation_steps=k`` the ranks exchange every k-th step only.
    - Its ``variables`` are the inner optimizer's, so weights saved with and without the
      wrapper can be exchanged.

    Args:
        inner_optimizer: A Keras optimizer, or a name or config of one.
        wire: The format large gradients travel in: ``"fp32"`` as computed, ``"fp16"``,
            ``"bf16"``, ``"int8"`` or ``"int4"``; or ``"auto"``: formats are tried in the first 64 steps,
            and a narrower one stays if steps get quicker. By default what the group was
            started with (``%eai up --wire``), or else ``"fp32"``. Computing and weights stay
            as they are. Rows of embeddings travel in the same format.
        sparse: ``"merged"``: repeated rows of embedding gradients are added up, which is
            much less to send and what a dense gradient would be. ``"rows"``: they stay
            apart, exactly as plain Keras has them. Optimizers that square gradients give
            different results.
        name: The optimizer's name.

    Raises:
        EaiError: An unknown `wire` or `sparse`, or an optimizer that is wrapped already.

    Examples:
        >>> optimizer = DistributedOptimizer(keras.optimizers.Adam(1e-3, clipnorm=1.0))
        >>> float(optimizer.learning_rate), optimizer.beta_1
        (0.0010000000474974513, 0.9)
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str | dict[str, Any],
        *,
        wire: str | None = None,
        sparse: Sparse = "merged",
        row_wise: RowWise | None = None,
        name: str | None = None,
    ) -> None:
        inner = keras.optimizers.get(inner_optimizer)
        if isinstance(inner, DistributedOptimizer):
            raise EaiError(
                "the optimizer is distributed already",
                "wrap it once",
                code="optimizer-wrapped-twice",
            )
        wire = wire or default_format()
        memory = Wire(wire, sparse)
        check_mode(row_wise)
        _check_merged(row_wise, sparse)
        # The base class wants a rate to make a variable of; the inner optimizer's counts.
        super().__init__(learning_rate=0.0, name=name or f"distributed_{inner.name}")
        self.inner_optimizer = inner
        self.wire = wire
        self.sparse = sparse
        self.row_wise = row_wise
        self.row_tables: RowTables | None = None
        """The tables that are updated by rows, once it is built."""
        self.exchange_memory = memory
        """The formats of its exchanges, and what they remember from step to step."""
        self.shared = False
        """Whether all ranks have taken over rank 0's weights and state."""

    # ------------------------------------------------------------------ the step

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the inner optimizer's variables for `variables`."""
        import tensorflow as tf

        variables = list(variables)
        # Made while a step is traced, they would have no values before that step runs.
        with tf.init_scope():
            if not self.inner_optimizer.built:
                self.inner_optimizer.build(variables)
            super().build(variables)
        sharded_variables.mark_slots(self.inner_optimizer.variables, variables)
        if self.row_wise is not None:
            self.row_tables = RowTables(self.inner_optimizer, variables, self.row_wise)

    def update_by_rows(self, mode: RowWise) -> bool:
        """Update tables by rows from now on; return whether that is new.

        Raises:
            EaiError: An unknown mode, or another one than it has begun with.
        """
        check_mode(mode)
        if self.row_wise == mode:
            return False
        if self.row_tables is not None:
            raise EaiError(
                f"the optimizer updates rows with row_wise={self.row_wise!r}, not {mode!r}",
                "compile the model with a new optimizer",
                code="options-conflict",
            )
        _check_merged(mode, self.sparse)
        self.row_wise = mode
        if self.built:
            variables = self._trainable_variables
            self.row_tables = RowTables(self.inner_optimizer, variables, mode)
        return True

    @not_converted
    def apply(
        self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        """Average `grads` over the ranks and update the variables with the result."""
        grads = list(grads)
        if not grads:
            return
        if trainable_variables is None:
            trainable_variables = self._trainable_variables
        variables = list(trainable_variables)
        collective.ensure_formed()
        if collective.exchanges():
            order = matching.agree(grads, variables)
            grads, variables = order.sort(grads), order.sort(variables)
        if not self.built:
            self.build(variables)
        if collective.size() > 1:
            sharded_variables.check_optimizer(self.inner_optimizer, variables)
        self._share(variables)
        if not collective.exchanges():
            self._update(exchange.local(grads, self.exchange_memory), variables)
        elif self._accumulation_steps() is None:
            self._update(
                exchange.exchange_copies(grads, variables, self.exchange_memory), variables
            )
        else:
            self._accumulate(grads, variables)

    @not_converted
    def apply_gradients(self, grads_and_vars: Any) -> keras.Variable:
        """Average and apply pairs of gradient and variable."""
        grads, variables = zip(*grads_and_vars, strict=True)
        self.apply(grads, variables)
        return self.iterations

    def _update(self, exchanged: exchange.Exchanged, variables: list[keras.Variable]) -> None:
        """Apply reduced gradients, and mark when that was done."""
        first = graph_timestamps.operation_count()
        if self.row_tables is None:
            self.inner_optimizer.apply(exchanged.gradients, variables)
        else:
            self.row_tables.apply(self.inner_optimizer, exchanged.gradients, variables)
        exchanged.write_marks(_applied(first))

    def _share(self, variables: list[keras.Variable]) -> None:
        """Take over rank 0's weights and state, once, before anything of a step has run.

        Not in `build`: a rank that loads a model from disk builds, and does so alone.
        """
        if self.shared or not collective.exchanges():
            return
        if not all(map(has_value, variables)):
            refuse_to_run()  # they get their values before the step is traced once more
            return
        self.shared = True
        first_weights.take_over(
            sharded_variables.copies(variables), sharded_variables.copies(self.variables)
        )

    # ------------------------------------------------------- gradient accumulation

    def _accumulation_steps(self) -> int | None:
        """Return k if gradients are to be accumulated locally for k steps.

        Under a loss scale they are not: which micro-steps are skipped would be decided
        by each rank alone. Then every micro-step is exchanged, which is as correct.
        """
        steps: int | None = self.inner_optimizer.gradient_accumulation_steps
        return steps or None

    def _accumulate(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        """Leave accumulating to the inner optimizer, and exchange before it updates.

        The update averages what it accumulated and the current gradient. So on that step
        it is given their exchanged sum, and nothing as accumulated.
        """
        import tensorflow as tf

        inner = self.inner_optimizer
        steps = self._accumulation_steps()
        # Accumulators are dense, so sparse gradients would become so one line later.
        dense = [None if g is None else tf.convert_to_tensor(g) for g in grads]
        positions = [inner._get_variable_index(v) for v in variables]  # noqa: SLF001
        totals = [inner._accumulated_gradients[position] for position in positions]  # noqa: SLF001
        last = (inner._iterations + 1) % steps == 0  # noqa: SLF001

        def update() -> None:
            # Tensors of the outer graph hold the whole branch back unless taken in first.
            here = [None if g is None else tf.identity(g) for g in dense]
            sums = [
                None if g is None else g + total.value
                for g, total in zip(here, totals, strict=True)
            ]
            exchanged = exchange.exchange_copies(sums, variables, self.exchange_memory)
            with tf.control_dependencies([g for g in sums if g is not None]):
                for total in totals:
                    total.assign(tf.zeros_like(total.value))
            self._update(exchanged, variables)

        def wait() -> None:
            here = [None if g is None else tf.identity(g) for g in dense]
            self._update(exchange.local(here, self.exchange_memory), variables)

        tf.cond(last, _returning_nothing(update), _returning_nothing(wait))

    # ---------------------------------------------- what the inner optimizer answers

    @property
    def variables(self) -> list[keras.Variable]:
        """The inner optimizer's variables."""
        inner: list[keras.Variable] = self.inner_optimizer.variables
        return inner

    @property
    def iterations(self) -> Any:
        """How many updates were made."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The inner optimizer's learning rate."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss: Any) -> Any:
        """Scale the loss as the inner optimizer wants it."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Let the inner optimizer write its final values, such as moving averages."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(
        self, var_list: Sequence[Any] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exclude variables from the inner optimizer's weight decay."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the inner optimizer's variables."""
        self.inner_optimizer.set_weights(weights)

    def __getattr__(self, name: str) -> Any:
        """Answer for the inner optimizer's own settings, such as ``beta_1``."""
        if name.startswith("_") or "inner_optimizer" not in self.__dict__:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(self.inner_optimizer, name)

    # ------------------------------------------------------------------ on disk

    def save_own_variables(self, store: Any) -> None:
        """Save the inner optimizer's variables, and what this rank still owes (int8).

        Scales are left out: ranks must agree on them, and one step finds them again.
        """
        super().save_own_variables(store)
        for key, values in self.exchange_memory.state().items():
            if key.startswith(OWED):
                store[_stored(key)] = values

    def load_own_variables(self, store: Any) -> None:
        """Load what `save_own_variables`, or the inner optimizer's, has saved."""
        saved = {_key(name): store[name] for name in store.keys()}  # noqa: SIM118 -- not a dict
        owed = {key: values for key, values in saved.items() if key.startswith(OWED)}
        super().load_own_variables({key: saved[key] for key in saved if key not in owed})
        self.exchange_memory.load(owed)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs to make this optimizer again."""
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(self.inner_optimizer),
            "wire": self.wire,
            "sparse": self.sparse,
            "row_wise": self.row_wise,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> DistributedOptimizer:
        """Make an optimizer from `get_config`'s answer."""
        settings = dict(config)
        inner = keras.saving.deserialize_keras_object(
            settings.pop("inner_optimizer"), custom_objects=custom_objects
        )
        return cls(inner, **settings)


def _check_merged(row_wise: str | None, sparse: str) -> None:
    if row_wise is not None and sparse != "merged":
        raise EaiError(
            f"row_wise={row_wise!r} updates each row once, and sparse={sparse!r} keeps rows apart",
            'leave sparse="merged", or leave row_wise out',
            code="options-conflict",
        )


def _stored(key: str) -> str:
    """Return a key as a name in a file, where a slash would mean a folder."""
    return key.replace("/", "|")


def _key(name: str) -> str:
    return name.replace("|", "/")


def _applied(first: int) -> tf.Tensor:
    """Stamp when the update that began with the graph's operation `first` was done."""
    import tensorflow as tf

    return graph_timestamps.stamp(
        [] if tf.executing_eagerly() else graph_timestamps.update_operations(first)
    )


def _returning_nothing(branch: Any) -> Any:
    """Return `branch` for `tf.cond`, which needs a value from both sides."""
    import tensorflow as tf

    def run() -> tf.Tensor:
        branch()
        return tf.constant(0)

    return run
