"""What cannot work together in a solve: its solver, steps, gradient method and regularizer."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import fields

from noderun.config.schema import Gradient, Regularizer, Settings, Solver
from noderun.config.validation import Incompatible

OF_ADAPTIVE_STEPS = ("controller", "norm", "first_step", "min_step", "max_step")
OWN_CONTROL = {  # solver -> the settings of adaptive steps that mean nothing to it
    "adams": {"controller"},
    "bdf": {"controller"},
    "radau5": {"controller"},
    "scipy": {"controller", "norm", "min_step"},
}


def check_steps(settings: Settings, given: Set[str]) -> None:
    solver, model = settings.solver, settings.model
    assert solver is not None
    check_sort(settings)
    if solver.dt is None and model.fixed_steps:
        raise Incompatible(f"model={model.name} takes fixed steps only: give solver.dt or a solver such as solver=rk4")
    useless = given & {"solver.rtol", "solver.atol", "gradient.rtol", "gradient.atol"}
    if solver.dt is not None and useless:
        raise Incompatible(f"{min(useless)} was given, but fixed steps (solver.dt={solver.dt:g}) have no tolerance")
    if model.stochastic:
        return check_stochastic(settings)
    check_solver(solver)
    check_pair(settings)
    if model.options.get("norm") == "point" and (solver.dt is not None or solver.norm != Solver.norm):
        raise Incompatible("model.norm=point is the error norm of adaptive steps: leave solver.norm and solver.dt out")
    if solver.per_sample:
        check_per_sample(solver, settings.gradient, settings.regularizer)


def check_sort(settings: Settings) -> None:
    """Raises Incompatible if the solver is for ordinary equations and the model's is stochastic, or the other way."""
    from noderun.ode.solvers import METHODS
    from noderun.sde import METHODS as SDE_METHODS

    solver, model = settings.solver, settings.model
    assert solver is not None
    if model.stochastic and (solver.user_class or solver.name not in SDE_METHODS):
        raise Incompatible(
            f"model={model.name} solves a stochastic equation, and solver={solver.name} is for ordinary ones: use "
            f"solver={' or '.join(SDE_METHODS)}"
        )
    if not model.stochastic and not solver.user_class and solver.name not in METHODS:
        instead = {"heun": "heun2"}.get(solver.name, "midpoint")
        raise Incompatible(
            f"solver={solver.name} is for stochastic equations, and model={model.name} solves an ordinary one: use "
            f"solver={instead}"
        )


def check_stochastic(settings: Settings) -> None:
    """Raises Incompatible if a method for stochastic equations cannot solve the model's as it was told to."""
    from noderun.models.latent_equation import FORMS, MULTIPLICATIVE
    from noderun.sde import METHODS, SOLVERS
    from noderun.sde.solvers import SDEMethod

    solver, options = settings.solver, settings.model.options
    assert solver is not None
    name, interpretation = solver.name, options["interpretation"]
    info, additive = SOLVERS[name], FORMS[options["form"]] == "additive"
    if interpretation not in info.interpretations and not additive:
        able = [other for other, its in SOLVERS.items() if interpretation in its.interpretations]
        raise Incompatible(
            f"solver={name} solves {info.interpretations[0].capitalize()} equations, and "
            f"model.interpretation={interpretation}: use solver={' or '.join(able)}, or "
            f"model.interpretation={info.interpretations[0]}"
        )
    if solver.dt is None and not isinstance(METHODS[name], SDEMethod):
        raise Incompatible(f"solver={name} takes fixed steps only: give their size, for instance solver.dt=0.1")
    asked = {f.name for f in fields(Solver) if f.name in OF_ADAPTIVE_STEPS and getattr(solver, f.name) != f.default}
    if asked and solver.dt is not None:
        raise Incompatible(
            f"solver.{min(asked)} is for adaptive steps, and fixed ones were chosen (solver.dt={solver.dt:g})"
        )
    for key, chosen in (("per_sample", solver.per_sample), ("compile", solver.options.get("compile"))):
        if chosen:
            raise Incompatible(f"solver.{key}=true is for ordinary equations, and model={settings.model.name} has none")
    if settings.model.objective.name == "sde_matching" and options["posterior"] != "marginals":
        raise Incompatible(
            "model.objective=sde_matching draws z(t) from its marginals, which a posterior given by its drift does not "
            "know: use model.posterior=marginals"
        )
    if options["posterior"] == "marginals" and options["form"] in MULTIPLICATIVE:
        raise Incompatible(
            f"model.form={options['form']} has no diffusion at z = 0, which normal marginals cross: use "
            "model.posterior=drift, or model.form=free or lsde"
        )


def check_solver(solver: Solver) -> None:
    """Raises Incompatible if a solver cannot take its steps as it was told to."""
    from noderun.training.build import make_method

    try:
        method = make_method(solver)
    except (TypeError, ValueError) as error:
        raise Incompatible(f"solver={solver.name}: {error}") from None
    if solver.dt is None and not method.info.adaptive:
        raise Incompatible(f"solver={solver.name} takes fixed steps only: give their size, for instance solver.dt=0.1")
    if solver.dt is not None and not method.info.fixed_step:
        raise Incompatible(f"solver={solver.name} chooses its own steps: leave solver.dt out, or say solver.dt=null")
    asked = {f.name for f in fields(Solver) if f.name in OF_ADAPTIVE_STEPS and getattr(solver, f.name) != f.default}
    if asked and solver.dt is not None:
        raise Incompatible(
            f"solver.{min(asked)} is for adaptive steps, and fixed ones were chosen (solver.dt={solver.dt:g})"
        )
    if useless := asked & OWN_CONTROL.get(solver.name, set()):
        raise Incompatible(f"solver={solver.name} controls its steps in its own way: leave solver.{min(useless)} out")


def check_pair(settings: Settings) -> None:
    """Raises Incompatible if the solver moves q and p in turn, and the model's state is no such pair."""
    from noderun.config.options import OPTIONS
    from noderun.config.options.option import facts_of
    from noderun.models import MODELS
    from noderun.models.observed import ObservedState
    from noderun.ode.solvers.splitting import Splitting
    from noderun.training.build import make_method

    solver, model = settings.solver, settings.model
    assert solver is not None
    if model.user_class or not isinstance(make_method(solver), Splitting):
        return
    of_pairs = [name for name, made in MODELS.items() if isinstance(made, type) and issubclass(made, ObservedState)]
    able = [name for name in of_pairs if "solver" in facts_of(OPTIONS["model"][name])["uses"]]
    if model.name not in able:
        raise Incompatible(
            f"solver={solver.name} moves positions and momenta in turn, and the state of model={model.name} is no such "
            f"pair: use model={' or '.join(able)}, or a solver such as solver=dopri5"
        )


def check_per_sample(solver: Solver, gradient: Gradient | None, regularizer: Regularizer | None) -> None:
    """Raises Incompatible if the examples of a batch cannot take steps of their own."""
    import torch

    from noderun.ode.gradients import GRADIENTS
    from noderun.ode.solvers import StepOptions
    from noderun.ode.solvers.per_sample.methods import batched_method
    from noderun.training.build import make_method

    try:
        if solver.options.get("compile"):
            raise ValueError("per_sample=True has no compiled steps")
        batched_method(make_method(solver), StepOptions(), torch.zeros(1, 1))
    except ValueError as error:
        raise Incompatible(f"solver.per_sample=true cannot be: {error}") from None
    if gradient is not None and (reason := GRADIENTS[gradient.name](**gradient.options).refusal_per_sample()):
        raise Incompatible(f"solver.per_sample=true cannot be: {reason}")
    if regularizer is not None and regularizer.name != "none":
        raise Incompatible(
            f"regularizer={regularizer.name} is integrated with one time for all examples, and solver.per_sample=true "
            "gives each its own: leave one of them out"
        )


def check_regularizer(regularizer: Regularizer, solver: Solver) -> None:
    from noderun.ode.solvers.runge_kutta import ExplicitRungeKutta
    from noderun.regularizers import Local
    from noderun.training.build import make_method, make_regularizer

    if regularizer.name == "none":
        return
    penalty = make_regularizer(regularizer)
    if isinstance(penalty, Local):
        method = make_method(solver)
        if not isinstance(method, ExplicitRungeKutta) or not penalty.fits(method.tableau):
            raise Incompatible(
                f"regularizer={regularizer.name} looks at the stages of an explicit Runge-Kutta step, and "
                f"solver={solver.name} does not have those that it needs; try solver=dopri5"
            )
    elif solver.options.get("compile"):
        raise Incompatible(
            f"regularizer={regularizer.name} makes its field anew for every batch, which solver.compile=true would "
            "compile each time: leave one of them out"
        )
    elif solver.norm != Solver.norm:
        raise Incompatible(
            f"regularizer={regularizer.name} has a norm of its own, without its integral: leave solver.norm out"
        )


def check_gradient(settings: Settings, given: Set[str]) -> None:
    from noderun.ode.gradients import GRADIENTS
    from noderun.training.build import make_method

    solver, gradient = settings.solver, settings.gradient
    assert gradient is not None
    if settings.model.stochastic:
        return check_stochastic_gradient(settings, given)
    if solver and (reason := GRADIENTS[gradient.name]().refusal(make_method(solver))):
        raise Incompatible(reason)
    own_product = settings.dynamics is not None and settings.dynamics.name != "time_mlp"
    divergence = settings.model.options.get("divergence")
    if gradient.name == "forward" and divergence and (divergence == "hutchinson" or own_product):
        raise Incompatible(
            "gradient=forward cannot be taken through the vector-Jacobian products of a divergence, which only "
            "dynamics=time_mlp and model=cnf have in closed form: use gradient=checkpointed, which is as exact"
        )
    useless = given & {"gradient.rtol", "gradient.atol"}
    if useless and GRADIENTS[gradient.name].exact:
        raise Incompatible(
            f"{min(useless)} was given, but gradient={gradient.name} takes the forward solve's own steps"
        )


def check_stochastic_gradient(settings: Settings, given: Set[str]) -> None:
    """Raises Incompatible if the gradient cannot be taken through the solve of a stochastic equation."""
    from noderun.sde import GRADIENTS, METHODS, SOLVERS

    solver, gradient = settings.solver, settings.gradient
    assert solver is not None and gradient is not None
    if gradient.name not in GRADIENTS:
        raise Incompatible(
            f"gradient={gradient.name} is for ordinary equations, and model={settings.model.name} solves a stochastic "
            f"one: use gradient={' or '.join(GRADIENTS)}"
        )
    if gradient.name == "reversible" and not METHODS[solver.name].info.reversible:
        able = [name for name, info in SOLVERS.items() if info.reversible]
        raise Incompatible(
            f"gradient=reversible undoes steps exactly, which solver={solver.name} cannot: use "
            f"solver={' or '.join(able)}"
        )
    if useless := given & {"gradient.rtol", "gradient.atol"}:
        raise Incompatible(
            f"{min(useless)} was given, but gradient={gradient.name} takes the forward solve's own steps"
        )
