"""One trial's stages in their order, through the cache, into a file that is then audited and measured.

The only module that knows the order of things.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sweep.compress.quantize import formats, ptq, qat
from sweep.core.errors import ConfigError
from sweep.core.metrics import Metrics
from sweep.core.types import Arrays, Checkpoint, Curves, Data, Progress, Spec, Split, Storage
from sweep.data.augment import Augment
from sweep.models import checkpoints, contract, layer_names, random_weights
from sweep.pipeline import accounting, sources
from sweep.pipeline.cache import Cache, Hit, canonical, digest
from sweep.pipeline.conversion import Converter, kernels
from sweep.pipeline.early_stop import Rivals
from sweep.pipeline.graph import Node, stage_nodes
from sweep.pipeline.plan import Plan
from sweep.pipeline.protocols import Quantisation, Stage
from sweep.tflite import audit, benchmark, convert, expectations
from sweep.train import context, loop

_log = logging.getLogger(__name__)


_TRIED = 4  # images with which an untrained network is calibrated
_ACCURACIES = ("val_accuracy", "float_accuracy")
_LIBRARIES = ("tensorflow", "tf-keras", "tensorflow-model-optimization", "numpy")


class _Form(NamedTuple):
    """The metrics of a file that training alone does not change, or hardly: known before anything was learnt."""

    size_bytes: int
    gzip_bytes: int
    compression: float
    parameters: int
    nonzero_parameters: int
    sparsity: float
    macs: int
    weight_bits: float
    distinct_weight_levels: int


class Hopeless(Exception):
    """The trial was stopped before a stage that trains, since it is not to be expected that it reaches the front any more."""


def _code(*parts: object) -> str:
    """sha256 (hex) of the code behind what computes a result."""
    return sources.behind(*parts).digest


@cache
def versions() -> dict[str, str]:
    """Library to version, and `kernels`: what a result depends on besides the code."""
    return {name: metadata.version(name) for name in _LIBRARIES} | {"kernels": kernels()}


@dataclass(frozen=True, eq=False)
class Result:
    """What a plan came to.

    Attributes:
        content: the bytes of the `.tflite`.
        metrics: what is known of it.
        curves: stage name to its learning curves.
        baselines: the float32 files of the uncompressed networks: `start`, what one started from (the teacher where there is
            one), and `student`; each with its stage's `name`, `size_bytes`, `val_accuracy` and `test_accuracy`.
        bits: layer name to the bits of its kernel's grid; empty where the file is not of integers.
        data: the data it was trained and measured on.
    """

    content: bytes
    metrics: Metrics
    curves: Mapping[str, Curves]
    baselines: Mapping[str, Mapping[str, Any]]
    bits: Mapping[str, int]
    data: Data


def run(plan: Plan, store: Cache, progress: Progress, rivals: Path | None = None) -> Result:
    """Carry the plan out: stages, file, audit, measurements.

    Args:
        plan: what to do.
        store: where finished stages are, and go.
        progress: where to say how far it is.
        rivals: the file with the front so far, looked up before each stage that trains; None to go on whatever comes.

    Raises:
        Hopeless: when what is to be expected of the plan is beaten already.
        ConfigError: before anything trains, for what cannot work.
        AuditError: when the file does not show what the plan asked for.
        Exception: whatever a stage, the converter or the interpreter could not do.
    """
    return _Run(plan, store, progress, rivals).result()


def network(plan: Plan, store: Cache, progress: Progress) -> tuple[Checkpoint, Data]:
    """The network as the stages before quantisation leave it, and its data. No file is written, nothing is measured.

    Args:
        plan: what to do; its quantisation plays no part, so the network is that of every run that differs in it alone.
        store: where finished stages are, and go.
        progress: where to say how far it is.

    Raises:
        ConfigError: before anything trains, for what cannot work.
        Exception: whatever a stage could not do.
    """
    return _Run(replace(plan, quant=formats.Float32()), store, progress, None).network()


class _Run:
    def __init__(self, plan: Plan, store: Cache, progress: Progress, rivals: Path | None) -> None:
        self._plan, self._store, self._progress, self._rivals = plan, store, progress, rivals
        self._data = plan.check()
        self._nodes = stage_nodes(plan, self._parameters)
        self._converter = Converter(store, self._data, plan.seed, plan.threads)
        self._student = next(node for node in self._nodes if node.is_student)
        self._view = canonical(plan.dataset.augment) if plan.train.augment else None
        if plan.train.augment and plan.dataset.augment == Augment(shift=0, flip=False):
            _log.warning(
                "train.augment is true and dataset.augment leaves images as they are:"
                " dataset.augment.shift=1 moves them by up to a pixel, dataset.augment.flip=true mirrors half of them"
            )
        self._networks: dict[Node, Checkpoint] = {}
        self._curves: dict[Node, Curves] = {}
        self._keys: dict[Node, str] = {}
        self._checked = False

    def result(self) -> Result:
        plan, nodes = self._plan, self._nodes
        spent, saved, reused = 0.0, 0.0, 0
        for hit in self._taken():
            spent, saved = (spent, saved + hit.seconds) if hit.reused else (spent + hit.seconds, saved)
            reused += hit.reused
        network = self._networks[nodes[-1]]
        artifact = self._artifact(nodes[-1], plan.quant)
        baselines = {"start": self._baseline(nodes[0]), "student": self._baseline(self._student)}
        content = artifact["tflite"].tobytes()
        facts, before = audit.read(content), artifact["named"].tobytes()
        named = facts if before == content else audit.read(before)
        if not audit.same(facts, named):
            raise audit.AuditError("the packed file: expected the kernels that it had before, found others")
        self._expect(named, network)
        if plan.quant.budget_kib is not None and len(content) > plan.quant.budget_kib * 1024:
            raise audit.AuditError(f"the file: expected at most {plan.quant.budget_kib} KiB, found {len(content) / 1024:.1f}")
        if plan.quant.storage is Storage.INTEGER:
            self._expect_weights(before, network)
        val_accuracy, test_accuracy = self._accuracies(content)
        float_accuracy, latency = float(artifact["float_accuracy"]), benchmark.latency(content)
        metrics = Metrics(
            **self._form(content, facts, network)._asdict(),
            val_accuracy=val_accuracy,
            test_accuracy=test_accuracy,
            float_accuracy=float_accuracy,
            conversion_gap=float_accuracy - val_accuracy,
            efficiency=100 * test_accuracy / (len(content) / 1024),
            latency_ms=latency.median_ms,
            latency_p10_ms=latency.p10_ms,
            latency_p90_ms=latency.p90_ms,
            train_seconds=spent,
            stages_reused=reused,
            seconds_saved=saved,
        )
        curves = {node.name: self._curves[node] for node in nodes}
        return Result(content, metrics, curves, baselines, network.bits, self._data)

    def _expect(self, facts: audit.Audit, network: Checkpoint) -> None:
        """Check that the network's file is as the plan asks.

        Raises:
            AuditError: with the user's names for layers.
        """
        with _named_for(network):
            expectations.expect(
                facts,
                storage=self._plan.quant.storage,
                bits=layer_names.in_a_file(network).bits if network.bits else {},
                zeros=network.zeros,
                layers=self._plan.prune.layers,
                filters=self._uncut_filters() - network.removed if network.filters else None,
                activations=self._plan.quant.activations,
            )

    def _expect_weights(self, content: bytes, network: Checkpoint) -> None:
        """Check that the network's full-integer file has its zeros and its clusters where they are.

        Raises:
            AuditError: with the user's names for layers.
        """
        if network.masks or network.clusters:
            in_a_file = layer_names.in_a_file(network)
            with _named_for(network):
                expectations.expect_weights(content, in_a_file.masks, in_a_file.clusters)

    def network(self) -> tuple[Checkpoint, Data]:
        for _ in self._taken():
            pass
        return self._networks[self._nodes[-1]], self._data

    def _taken(self) -> Iterator[Hit]:
        """The result of every node, once it was taken for those that need it, and told."""
        for node, hit in self._hits():
            self._networks[node] = Checkpoint.from_arrays(hit.arrays)
            self._curves[node] = {name: tuple(values) for name, values in json.loads(str(hit.arrays["curves"])).items()}
            self._progress.finish(node.name, hit.seconds, hit.reused)
            _log.info("%s: %s, %.1f s", node.name, "reused" if hit.reused else "computed", hit.seconds)
            yield hit

    def _hits(self) -> Iterator[tuple[Node, Hit]]:
        """The result of every node, each once what it needs was taken.

        That is the order of the plan, but for a node that another process is computing: what does not need it goes first.
        """
        left = list(self._nodes)
        while left:
            ready = [node for node in left if {node.upstream, node.teacher} <= {None, *self._networks}]
            for node in ready:
                self._require_network(node)
                self._require_hope(node)
                if (hit := self._store.fetch_unless_busy(self._key(node), partial(self._compute, node))) is not None:
                    break
            else:
                node = ready[0]
                hit = self._store.fetch(self._key(node), partial(self._compute, node))
            left.remove(node)
            yield node, hit

    def _form(self, content: bytes, facts: audit.Audit, network: Checkpoint) -> _Form:
        if network.filters:
            removed = self._uncut_filters() - facts.filters
            sparsity = removed / sum(before for before, _ in network.filters.values())
        else:
            sparsity = facts.sparsity(self._plan.prune.layers)
        return _Form(
            size_bytes=len(content),
            gzip_bytes=benchmark.gzip_bytes(content),
            compression=self._artifact(self._nodes[0], formats.Float32())["tflite"].size / len(content),
            parameters=facts.parameters,
            nonzero_parameters=facts.nonzero_parameters,
            sparsity=sparsity,
            macs=facts.macs,
            weight_bits=facts.weight_bits,
            distinct_weight_levels=facts.distinct_weight_levels,
        )

    def _require_network(self, node: Node) -> None:
        """Refuse, before anything trains, what only the built network shows.

        Raises:
            ConfigError: from the distillation, the pruning or the quantisation, with its key.
        """
        plan = self._plan
        if self._checked or self._store.holds(self._key(node)):
            return
        self._progress.stage("check")
        loop.start(plan.threads)
        self._require_contract()
        for group, choice in (("distill", plan.distill), ("prune", plan.prune), ("quant", plan.quant)):
            if group == "prune" and plan.prune.sparsity == 0:
                continue
            checkpoints.fresh(plan.seed)
            with _under(group):
                choice.require(plan.model, self._data.input_shape, self._data.classes)
        self._require_facts()
        if plan.quant.storage is Storage.INTEGER and (refusal := self._refusal(plan.quant)):
            raise ConfigError("quant", "a network whose kernels become integers", refusal)
        if not plan.prune.removes_filters:
            plan.quant.require_budget(self._untrained, self._data.train, self._weight)
        self._checked = True

    def _specs(self) -> list[tuple[str, Spec]]:
        """Configuration key and network, of every network of the plan."""
        named = {"model": self._plan.model, **self._plan.distill.networks()}
        chosen = [node.model for node in self._nodes if node.model not in named.values()]
        return [*named.items(), *(("distill.assistants", model) for model in chosen)]

    def _contract_key(self, model: Spec) -> dict[str, Any]:
        return {
            "contract of": model,
            "student": model == self._plan.model,
            "start": model == self._nodes[0].model,
            "input_shape": self._data.input_shape,
            "classes": self._data.classes,
            "seed": self._plan.seed,
            "kernels": kernels(),
            "code": _code(model, contract, Converter),
        }

    def _require_contract(self) -> None:
        """Refuse a network of the plan that is not what a network must be.

        Raises:
            ConfigError: with the network's key.
        """
        for where, model in self._specs():
            if not self._store.holds(self._contract_key(model)):
                with _under(where):
                    contract.require(model, self._data.input_shape, self._data.classes, self._plan.seed)

    def _require_facts(self) -> None:
        """Refuse a network that its own float32 file does not show as it is, or that does not suit what is to be done to it.

        Raises:
            ConfigError: with the network's key, or that of the choice.
        """
        plan, student = self._plan, self._plan.model

        def accepted(model: Spec) -> Arrays:
            if model in (student, self._nodes[0].model):  # the others never become files
                facts = self._untrained_facts(model)
                if model == student:
                    accounting.require_counted(checkpoints.restore(self._untrained()), facts)
            return {}  # that it was accepted is all there is to keep: what refuses a network may be gone tomorrow

        for where, model in self._specs():
            with _under(where):
                self._store.fetch(self._contract_key(model), partial(accepted, model))
        built = checkpoints.restore(self._untrained())
        if plan.prune.sparsity > 0:
            with _under("prune"):
                contract.require_targets(built, plan.prune.layers, removed=plan.prune.removes_filters)
                if not plan.prune.removes_filters:
                    accounting.require_true_sparsity(built, plan.prune.layers, self._untrained_facts(student))
        if plan.cluster.levels is not None:
            with _under("cluster"):
                contract.require_targets(built, getattr(plan.cluster, "layers", "all"))
        if plan.quant.storage is Storage.INTEGER and plan.quant.untrained() != plan.quant:
            with _under("quant"):
                contract.require_wrappable(built)

    def _untrained_facts(self, model: Spec) -> audit.Audit:
        """What the float32 file of the network with random weights holds.

        Raises:
            ConfigError: without a key, for a network that does not become one.
        """
        try:
            return audit.read(self._converter.float_file(self._untrained(model)))
        except (convert.ExportError, audit.AuditError) as error:
            raise ConfigError("", "a network that becomes a .tflite file", str(error)) from error

    def _refusal(self, form: Quantisation) -> str:
        """Why the network cannot become a file of this form, found with random weights; empty where it can."""
        plan, data = self._plan, self._data
        tried, bits = form, None
        if isinstance(form, (ptq.PTQ, qat.QAT)):
            tried = alike = form.tried()
            bits = [alike.bits, alike.per_layer_bits, alike.first_last_bits]

        def attempt() -> Arrays:
            few = Split(data.train.images[:_TRIED], data.train.labels[:_TRIED])
            return {"refusal": np.array(self._converter.refusal(self._untrained(), tried, few))}

        key = {
            "refusal of": plan.model,
            "by": type(form).__qualname__,
            "activations": form.activations,
            "bits": bits,
            "input_shape": data.input_shape,
            "classes": data.classes,
            "kernels": kernels(),
            "code": _code(plan.model, form, Converter, random_weights),
        }
        return str(self._kept(key, attempt)["refusal"])

    def _untrained(self, spec: Spec | None = None) -> Checkpoint:
        """A network, the student at first, with random weights: fresh ones hide things by factors of 1 and biases of 0."""
        checkpoints.fresh(self._plan.seed)
        model = (spec or self._plan.model).build(self._data.input_shape, self._data.classes)
        model.set_weights(random_weights.draw([(weight.name, weight.numpy()) for weight in model.weights]))
        return checkpoints.snapshot(model)

    def _require_hope(self, node: Node) -> None:
        """Stop before a stage that trains when a rival is ahead, by the margin, of all that is to be expected.

        The accuracy expected is the best that the network has had: compressing and fine-tuning seldom add to it, and the margin
        allows for it. That holds for a network that has learnt, so nothing is said while training or distilling is still to
        come, or more epochs of fine-tuning than it has behind it. What the file will weigh is read off a rehearsal, and only
        when the accuracy alone leaves a doubt.

        Raises:
            Hopeless: naming the rival.
        """
        if self._rivals is None or node.upstream is None or node.stage.untrained() == node.stage:
            return
        left = self._nodes[self._nodes.index(node) :]
        untrained = {one: stage for one in left if (stage := one.stage.untrained()) is not None}
        behind = self._val_accuracies(node.upstream)
        if len(untrained) < len(left) or len(behind) < sum(getattr(one.stage, "finetune", 0) for one in left):
            return
        if self._store.holds(self._key(node)) or (rivals := self._known_rivals(self._rivals)) is None:
            return
        if not rivals.objectives.keys() <= {*_ACCURACIES, *_Form._fields}:
            return  # nothing could be ahead of what is not known
        expected = dict.fromkeys(_ACCURACIES, max(behind, default=1.0))
        if rivals.ahead(expected, unknown=np.inf) is None:
            return
        if (reason := rivals.ahead(expected | self._rehearsal(untrained)._asdict())) is not None:
            raise Hopeless(f"stopped before {node.name}: {reason}")

    def _known_rivals(self, path: Path) -> Rivals | None:
        """The front so far; None where there is none, or none that can be read: then the trial runs to its end."""
        try:
            return Rivals.read(path)
        except ConfigError as error:
            _log.warning("no trial is stopped early: %s", error)
            return None

    def _val_accuracies(self, node: Node | None) -> tuple[float, ...]:
        """Validation accuracy of the network after each epoch up to `node`."""
        return () if node is None else (*self._val_accuracies(node.upstream), *self._curves[node].get("val_accuracy", ()))

    def _rehearsal(self, stages: Mapping[Node, Stage]) -> _Form:
        """The form of the file that these stages give, in place of those of their nodes."""
        self._progress.stage("rehearse")
        loop.start(self._plan.threads)
        network = None
        for node, stage in stages.items():
            checkpoints.fresh(self._plan.seed)
            received = self._networks[node.upstream] if network is None and node.upstream else network
            network = stage.apply(received, self._context(node)).network
        network = context.required(network)
        content = self._converter.file(network, self._plan.quant)
        return self._form(content, audit.read(content), network)

    def _weight(self, network: Checkpoint) -> int:
        """How many bytes the network's file would have."""
        return len(self._converter.file(network, self._plan.quant))

    def _uncut_filters(self) -> int:
        """How many filters the student has before pruning, in its float32 file."""
        return audit.read(self._artifact(self._student, formats.Float32())["tflite"].tobytes()).filters

    def _parameters(self, model: Spec) -> int:
        """How many parameters a network has for these images."""

        def count() -> Arrays:
            loop.start(self._plan.threads)
            checkpoints.fresh(self._plan.seed)
            built = contract.build(model, self._data.input_shape, self._data.classes)
            return {"parameters": np.array(built.count_params())}

        key = {
            "parameters of": model,
            "input_shape": self._data.input_shape,
            "classes": self._data.classes,
            "code": _code(model),
        }
        return int(self._kept(key, count)["parameters"])

    def _key(self, node: Node) -> dict[str, Any]:
        """All that determines the node's result."""
        return {
            "stage": node.stage,
            "model": None if node.upstream else node.model,
            "upstream": self._digest(node.upstream),
            "teacher": self._digest(node.teacher),
            "goal": node.goal,
            "recipe": node.recipe,
            "data": self._data.split_hash,
            "view": self._view,
            "seed": self._plan.seed,
            "threads": self._plan.threads,
            "kernels": kernels(),
            "code": _code(*self._parts(node)),
        }

    def _parts(self, node: Node) -> tuple[object, ...]:
        """What computes the node's result, besides the networks that it receives."""
        augment = self._plan.dataset.augment if self._view else None
        weighs = Converter if node.upstream else None  # a stage that is given a network may ask what its file would weigh
        return node.stage, node.model, node.goal, node.recipe, augment, weighs

    def _digest(self, node: Node | None) -> str | None:
        if node is None:
            return None
        if node not in self._keys:
            self._keys[node] = digest(self._key(node))
        return self._keys[node]

    def _compute(self, node: Node) -> Arrays:
        plan = self._plan
        self._progress.stage(node.name)
        loop.start(plan.threads)
        _log.info("%s: computing %s", node.name, node.stage)
        checkpoints.fresh(plan.seed)
        outcome = node.stage.apply(self._networks[node.upstream] if node.upstream else None, self._context(node))
        sources.require_unchanged()
        return {**outcome.network.to_arrays(), "curves": np.array(json.dumps(outcome.curves))}

    def _context(self, node: Node) -> context.Context:
        teacher = (str(self._digest(node.teacher)), self._networks[node.teacher]) if node.teacher else None
        return context.Context(
            data=self._data,
            recipe=node.recipe,
            augment=self._plan.dataset.augment,
            view=self._view,
            seed=self._plan.seed,
            model=node.model,
            teacher=teacher,
            goal=node.goal,
            remember=lambda key, compute: self._kept({**key, "code": _code(compute)}, compute),
            weigh=self._weight,
            progress=self._progress,
        )

    def _artifact(self, node: Node, form: Quantisation) -> Arrays:
        """The node's network as a file.

        Returns:
            `tflite` and, before it was packed, `named`, uint8 (bytes,); its Keras validation accuracy (`float_accuracy`).
        """

        def make() -> Arrays:
            self._progress.stage("convert")
            return self._converter.artifact(self._networks[node], form)

        return self._kept({"file of": self._digest(node), "form": form, "code": _code(form, Converter)}, make)

    def _kept(self, key: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """What the store has under a key, or what is computed, kept from now on."""

        def computed() -> Arrays:
            arrays = compute()
            sources.require_unchanged()
            return arrays

        return self._store.fetch(key, computed).arrays

    def _baseline(self, node: Node) -> dict[str, Any]:
        """What the node's network is as a float32 file."""
        content = self._artifact(node, formats.Float32())["tflite"].tobytes()
        validation, test = self._accuracies(content)
        return {"name": node.name, "size_bytes": len(content), "val_accuracy": validation, "test_accuracy": test}

    def _accuracies(self, content: bytes) -> tuple[float, float]:
        """Top-1 of the file on the validation and the test split."""

        def make() -> Arrays:
            self._progress.stage("measure")
            splits = (self._data.validation, self._data.test)
            return {
                "accuracies": np.array([benchmark.accuracy(content, split, threads=self._plan.threads) for split in splits])
            }

        key = {
            "accuracy of": hashlib.sha256(content).hexdigest(),
            "data": self._data.split_hash,
            "code": _code(benchmark),
        }
        validation, test = self._kept(key, make)["accuracies"]
        return float(validation), float(test)


@contextmanager
def _named_for(network: Checkpoint) -> Iterator[None]:
    """Tell what a file lacks with the user's names for the layers."""
    try:
        yield
    except audit.AuditError as error:
        raise audit.AuditError(layer_names.with_user_names(str(error), network)) from error


@contextmanager
def _under(where: str) -> Iterator[None]:
    """Place the key of a refusal below another."""
    try:
        yield
    except ConfigError as error:
        raise error.under(where) from error
